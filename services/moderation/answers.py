"""The answers that one peer is streaming."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from services.moderation.attacks.protected_text import ProtectedText
from services.moderation.events import Events
from services.moderation.gate import Gate, Question, Reply, apply_retractions
from services.moderation.guard.offers import GuardOffers
from services.moderation.judge import classifier_outcomes
from services.moderation.metrics import ModerationMetrics
from services.moderation.model import Direction, Layer, Outcome, Progress, Retraction, Segment, Subject
from services.moderation.policy import Policy, UserPolicy
from services.moderation.policy_file import ATTACK_CATEGORY
from services.moderation.scoring import Scoring
from services.moderation.text.normalise import for_classifier

_log = logging.getLogger(__name__)

LEAK_RULE = "instructions"
"""The rule that is named where an answer repeats its instructions."""

_AGAIN_S = 0.1
"""How long to wait before the classifier is asked again: one that has too much to do says so at once."""


_protected = lru_cache(maxsize=16)(ProtectedText)
"""Of a deployment's few instructions, each is made ready once and not for every answer: a long one takes long."""


@dataclass(slots=True)
class _Open:
    """An answer that is being written."""

    gate: Gate
    policy: Policy
    user_policy: UserPolicy
    subject: Subject
    ended: bool = False
    retractions: list[Retraction] = field(default_factory=list)
    """Those that were sent, in this order."""
    asking: set[asyncio.Task[None]] = field(default_factory=set)


class Answers:
    """One gate for each generation of a peer, from its first segment to its last.

    Args:
        policy: Gives the policy in force. An answer keeps the one that it began with.
        scoring: The classifier; None when there is none.
        events: Where what was done is written down.
        metrics: Told of verdicts and findings.
        offers: Takes what was shown to the guard; None when there is none.
        on_progress: Told how far the answers are clear.
    """

    def __init__(
        self,
        *,
        policy: Callable[[], Policy],
        scoring: Scoring | None,
        events: Events,
        metrics: ModerationMetrics,
        on_progress: Callable[[str, Progress], None],
        offers: GuardOffers | None = None,
    ) -> None:
        self._policy = policy
        self._scoring = scoring
        self._events = events
        self._metrics = metrics
        self._on_progress = on_progress
        self._offers = offers
        self._open: dict[str, _Open] = {}
        self._given_up: set[str] = set()

    def __len__(self) -> int:
        return len(self._open)

    def take(self, segment: Segment) -> None:
        """Take the next segment of a generation.

        Nothing more is said about an answer that cannot be judged because of a fault of ours: how long its peer waits,
        and what it does then, says the policy. The others of the peer go on.
        """
        generation_id = segment.generation_id
        if generation_id in self._given_up:
            if segment.last or segment.abandoned:
                self._given_up.discard(generation_id)
            return
        try:
            self._take(segment)
        except Exception as error:  # noqa: BLE001 - whatever it was, the other answers go on
            self._give_up(generation_id, error, ended=segment.last)

    def _take(self, segment: Segment) -> None:
        generation_id = segment.generation_id
        if segment.abandoned:
            self._forget(generation_id)
            return
        answer = self._open.get(generation_id)
        if answer is None:
            answer = self._open[generation_id] = self._begin(segment)
        answer.ended = segment.last
        if not answer.gate.done:
            self._say(answer, answer.gate.feed(segment.text, last=segment.last))
        self._forget_when_over(answer)

    async def settled(self) -> None:
        """Wait until the classifier has answered all that it was asked."""
        while asking := [task for answer in self._open.values() for task in answer.asking]:
            await asyncio.wait(asking)

    def close(self) -> None:
        """The peer is gone."""
        self._given_up.clear()
        for generation_id in list(self._open):
            self._forget(generation_id)

    def _begin(self, segment: Segment) -> _Open:
        policy = self._policy()
        subject = segment.subject or Subject(segment.generation_id)
        user_policy = policy.for_user(tenant_id=subject.tenant_id, tier=subject.tier)
        way = user_policy.output
        instructions = way.categories.get(ATTACK_CATEGORY)
        leak: Outcome | None = None
        if instructions is not None and segment.protected_text:
            leak = instructions.outcome(rule=LEAK_RULE, layer=Layer.ATTACKS)
        answer: _Open

        def ask(question: Question) -> None:
            task = asyncio.create_task(self._ask(answer, question), name="ask-classifier")
            answer.asking.add(task)
            task.add_done_callback(answer.asking.discard)

        answer = _Open(
            Gate(
                policy=user_policy,
                ask=ask if self._scoring is not None and way.asks_classifier else None,
                leaks=_protected(segment.protected_text).watch() if leak is not None else None,
                leak_outcome=leak,
            ),
            policy,
            user_policy,
            subject,
        )
        return answer

    async def _ask(self, answer: _Open, question: Question) -> None:
        try:
            await self._ask_classifier(answer, question)
        except Exception as error:  # noqa: BLE001 - whatever it was, the peer's patience decides
            self._give_up(answer.subject.generation_id, error, ended=answer.ended)

    async def _ask_classifier(self, answer: _Open, question: Question) -> None:
        if self._scoring is None:
            return
        way = answer.user_policy.output
        timeout_s = answer.user_policy.stream.patience_ms / 1000
        text = for_classifier(question.text)
        scores = await self._scoring.score(text, Direction.OUTPUT, timeout_s=timeout_s, quick=True)
        while scores is None and way.classifier_is_needed:
            # Nothing more is shown until it answers; the peer gives up when that takes too long.
            await asyncio.sleep(_AGAIN_S)
            scores = await self._scoring.score(text, Direction.OUTPUT, timeout_s=timeout_s, quick=True)
        if scores is None:
            reply = Reply(unchecked=True)
        else:
            reply = Reply(classifier_outcomes(scores, way.categories, streamed=not question.whole))
        self._say(answer, answer.gate.reply(question, reply))
        self._forget_when_over(answer)

    def _say(self, answer: _Open, progress: Progress | None) -> None:
        if progress is None:
            return
        answer.retractions += progress.retractions
        event_id = ""
        if progress.done:
            gate = answer.gate
            self._metrics.judged(Direction.OUTPUT, gate.action)
            for layer in progress.unchecked:
                self._metrics.unchecked(Direction.OUTPUT, layer)
            for finding in gate.findings:
                self._metrics.found(Direction.OUTPUT, finding.outcome)
            event_id = self._events.record(
                answer.policy,
                subject=answer.subject,
                direction=Direction.OUTPUT,
                action=gate.action,
                findings=gate.findings,
                text=gate.text,
            )
            if self._offers is not None and not gate.action.refuses:
                self._offers.output(
                    answer.policy, subject=answer.subject, text=lambda: _shown(gate.text, answer.retractions)
                )
        said = replace(progress, policy_version=answer.policy.version, event_id=event_id)
        self._on_progress(answer.subject.generation_id, said)

    def _forget_when_over(self, answer: _Open) -> None:
        # A refused answer is kept until the peer says that it ends: what it still sends must not begin a new one.
        if answer.ended and answer.gate.done:
            self._forget(answer.subject.generation_id)

    def _give_up(self, generation_id: str, error: Exception, *, ended: bool) -> None:
        # Of an exception only the type is told: its message may quote the answer.
        _log.error("an answer cannot be judged", extra={"generation_id": generation_id, "error": type(error).__name__})
        self._metrics.given_up(error)
        self._forget(generation_id)
        if not ended:
            # What still comes of it must not begin a new answer.
            self._given_up.add(generation_id)

    def _forget(self, generation_id: str) -> None:
        answer = self._open.pop(generation_id, None)
        if answer is not None:
            answer.gate.close()
            current = asyncio.current_task()
            for task in answer.asking:
                if task is not current:
                    task.cancel()


def _shown(text: str, sent: Sequence[Retraction]) -> str:
    """An answer as its reader sees it after the retractions that were sent: a later one takes in those it touches."""
    standing: list[Retraction] = []
    for later in sent:
        touched = [r for r in standing if r.start < later.end and later.start < r.end]
        start, end = min(r.start for r in (later, *touched)), max(r.end for r in (later, *touched))
        standing = [r for r in standing if r not in touched] + [replace(later, start=start, end=end)]
    return apply_retractions(text, sorted(standing, key=lambda r: r.start))


def merge(progress: Iterable[tuple[str, Progress]]) -> dict[str, Progress]:
    """What was said about each generation, one after the other, as one."""
    merged: dict[str, Progress] = {}
    for generation_id, later in progress:
        earlier = merged.get(generation_id)
        if earlier is not None:
            later = replace(later, retractions=earlier.retractions + later.retractions)
        merged[generation_id] = later
    return merged
