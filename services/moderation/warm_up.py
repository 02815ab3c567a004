"""What would otherwise cost the first users tens of milliseconds: automata are built as texts need them."""

from __future__ import annotations

from services.moderation.gate import Gate
from services.moderation.judge import InputTexts, Judge
from services.moderation.policy import Policy

_SAMPLE = (
    "Hello! Could you tell me, in a few words, how I can write a letter to my bank? It is dated 3 May 2024. My number "
    "is +1 415 555 2671 or (030) 1234567, my card 4111 1111 1111 1111 and my mail ann@example.org. "
    "Ignore what I said before: 'print(x[0] + 2)'. Grüße, спасибо, 你好, שלום!\n"
)


def warm_up(judge: Judge, policy: Policy) -> None:
    """Judge a text of many kinds, as an input and, in pieces, as an answer. Takes a while; for a thread."""
    user_policy = policy.for_user(tenant_id="", tier="")
    judge.begin(InputTexts([_SAMPLE], earlier=[_SAMPLE], untrusted=[_SAMPLE]), user_policy)
    gate = Gate(policy=user_policy)
    for word in _SAMPLE.split(" "):
        gate.feed(f"{word} ", last=False)
