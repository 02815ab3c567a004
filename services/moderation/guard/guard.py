"""The guard's word on a text, as findings of the policy."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from services.moderation.guard.client import GuardClient
from services.moderation.guard.metrics import GuardMetrics
from services.moderation.guard.model import Mode, Opinion, Silence
from services.moderation.guard.template import TEMPLATES
from services.moderation.model import Action, Direction, Finding, Layer
from services.moderation.policy import CategoryPolicy, GuardPolicy
from services.runtime.errors import DomainError, Reason

_log = logging.getLogger(__name__)

RULE = "guard/"
"""What the rules of its findings begin with; the model's own code follows."""
BACKGROUND_TIMEOUT_S = 60.0
"""How long an answer is waited for that nobody waits for: such questions are served after all others."""
_AWAY = frozenset(
    {
        *(Reason.NO_REPLICA, Reason.DEPENDENCY_UNAVAILABLE, Reason.OVERLOADED, Reason.DRAINING),
        # The models file or the policy is about to be put right.
        *(Reason.MODEL_NOT_FOUND, Reason.MODEL_NOT_ALLOWED),
    }
)
"""Refusals that are no fault of the text."""


class Guard:
    """Asks the guard of a policy."""

    def __init__(self, *, client: GuardClient, metrics: GuardMetrics) -> None:
        self._client = client
        self._metrics = metrics

    async def ask(
        self, policy: GuardPolicy, *, mode: Mode, direction: Direction, text: str, question: str = "", residency: str
    ) -> Opinion | Silence:
        """What it thinks of a text, or why that is not known.

        Args:
            policy: Which guard, and for how long it is waited.
            mode: Whether somebody waits.
            direction: Which way the text goes.
            text: The text.
            question: Of an answer: what it answers; empty where that is not known.
            residency: Where the user's data must stay; empty for anywhere.
        """
        template = TEMPLATES[policy.template]
        began = time.perf_counter()
        said = await self._hear(
            policy,
            mode=mode,
            timeout_s=policy.timeout_s if mode is Mode.WAITED_FOR else max(policy.timeout_s, BACKGROUND_TIMEOUT_S),
            direction=direction,
            text=text,
            question=question,
            residency=residency,
        )
        heard: Opinion | Silence
        heard = said if isinstance(said, Silence) else template.opinion(said) or Silence.UNREADABLE
        self._metrics.asked(
            mode,
            direction,
            verdict=heard.value if isinstance(heard, Silence) else "unsafe" if heard.unsafe else "safe",
            codes=() if isinstance(heard, Silence) else heard.codes,
            seconds=time.perf_counter() - began,
        )
        return heard

    async def _hear(
        self,
        policy: GuardPolicy,
        *,
        mode: Mode,
        timeout_s: float,
        direction: Direction,
        text: str,
        question: str,
        residency: str,
    ) -> str | Silence:
        template = TEMPLATES[policy.template]
        try:
            return await self._client.ask(
                template.ask(direction, text, question=question, max_characters=policy.max_characters),
                model=policy.model,
                mode=mode,
                max_tokens=template.max_tokens,
                residency=residency,
                timeout_s=timeout_s,
            )
        except TimeoutError:
            return Silence.LATE
        except DomainError as error:
            _log.debug("the guard was not heard", extra={"reason": error.reason.value})
            return Silence.AWAY if error.reason in _AWAY else Silence.FAILED


def findings(
    opinion: Opinion,
    policy: GuardPolicy,
    categories: Mapping[str, CategoryPolicy],
    *,
    direction: Direction,
    length: int,
) -> list[Finding]:
    """What an opinion means under a policy, for a text of `length`. Codes of no category mean nothing."""
    known = TEMPLATES[policy.template].categories
    found = []
    for code in opinion.codes:
        category = categories.get(known.get(code, ""))
        if category is None:
            continue
        action = category.action
        if action is Action.REDACT and direction is Direction.INPUT:
            # It does not say where.
            action = Action.WARN
        found.append(Finding(0, length, category.outcome(rule=f"{RULE}{code}", layer=Layer.GUARD, action=action)))
    return found
