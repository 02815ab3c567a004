"""Seeds, biases, penalties."""

from __future__ import annotations

from services.inference.conformance.case import Case, needs
from services.inference.conformance.expectation import ConformanceError, expect, expect_finish, quote
from services.inference.conformance.subject import Subject
from services.inference.model import Capability, FinishReason

_LIMIT = 16
_BAN, _FORCE = -100.0, 100.0


async def _same_seed(subject: Subject) -> None:
    answers = [
        await subject.ask(subject.long_prompt, temperature=1.0, seed=5, max_tokens=_LIMIT)
        for _ in range(3 if subject.repeats else 1)
    ]
    # The first fills the cache, and the others go on from it.
    texts = {answer.text for answer in answers[1:]}
    expect(len(texts) <= 1, "the same seed gave two answers")


async def _other_seed(subject: Subject) -> None:
    if not subject.samples:
        return
    texts = {
        (await subject.ask(subject.long_prompt, temperature=1.0, seed=seed, max_tokens=_LIMIT)).text
        for seed in range(4)
    }
    expect(len(texts) > 1, "four seeds gave the same answer")


async def _any_seed(subject: Subject) -> None:
    for seed in (0, -1, 2**32 - 1, 2**63 - 1, -(2**63)):
        answer = await subject.ask(seed=seed, max_tokens=2)
        expect_finish(answer.end, FinishReason.STOP, FinishReason.LENGTH)


async def _greedy(subject: Subject) -> None:
    if not subject.repeats:
        return
    answers = [
        await subject.ask(subject.long_prompt, temperature=0.0, seed=seed, max_tokens=_LIMIT) for seed in (1, 1, 1)
    ]
    expect(answers[1].text == answers[2].text, "the likeliest answer is another one each time")


async def _a_token(subject: Subject) -> tuple[int, str]:
    if subject.known_token is not None:
        return subject.known_token
    answer = await subject.ask(subject.long_prompt, max_tokens=_LIMIT)
    for delta in answer.deltas:
        if len(delta.token_ids) == 1 and delta.text.strip():
            return delta.token_ids[0], delta.text
    raise ConformanceError("no id of a token came with an answer, though the engine is known to give them")


async def _forced(subject: Subject) -> None:
    token, text = await _a_token(subject)
    answer = await subject.ask(subject.short_prompt, max_tokens=3, logit_bias=((token, _FORCE),))
    expect(answer.tokens == 3, f"{answer.tokens} tokens came, and a token was forced three times")
    # Some tokenizers put a space before words, and leave it out at the start.
    expect(
        answer.text.replace(" ", "") == text.strip().replace(" ", "") * 3,
        f"the token {quote(text)} was forced, and the answer is {quote(answer.text)}",
    )


async def _banned(subject: Subject) -> None:
    token, text = await _a_token(subject)
    answer = await subject.ask(subject.long_prompt, max_tokens=_LIMIT, logit_bias=((token, _BAN),))
    expect(token not in answer.token_ids, "a banned token came")
    first = answer.deltas[0].text
    whole = await subject.ask(subject.long_prompt, max_tokens=_LIMIT)
    if whole.deltas[0].text == text:
        expect(first != text, "a banned token came")


async def _penalties(subject: Subject) -> None:
    for penalty in (-2.0, 0.5, 2.0):
        answer = await subject.ask(
            subject.long_prompt, max_tokens=_LIMIT, presence_penalty=penalty, frequency_penalty=penalty
        )
        expect_finish(answer.end, FinishReason.STOP, FinishReason.LENGTH)
        expect(answer.text, f"with penalties of {penalty} the answer has no text")


def _unless_ids_are_known(subject: Subject) -> str:
    if subject.gives_token_ids or subject.known_token is not None:
        return ""
    return "no id of a token is known here, so none can be biased; with tokenizer: server one is asked for"


CASES = (
    Case("same_seed", "the same seed gives the same answer", _same_seed),
    Case("other_seed", "another seed gives another answer", _other_seed),
    Case("any_seed", "every seed of 64 bits is one", _any_seed),
    Case("greedy", "at temperature 0 the likeliest answer comes, each time the same", _greedy),
    Case(
        "bias_forces",
        "a token with a bias of 100 comes",
        _forced,
        needs(Capability.LOGIT_BIAS),
        unless=_unless_ids_are_known,
    ),
    Case(
        "bias_bans",
        "a token with a bias of -100 never comes",
        _banned,
        needs(Capability.LOGIT_BIAS),
        unless=_unless_ids_are_known,
    ),
    Case("penalties", "penalties are taken from -2 to 2", _penalties, needs(Capability.PENALTIES)),
)
