"""What is measured of turns. OpenTelemetry's own metrics of generation come from the engines, in Inference."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from services.conversation.model import Outcome, Rating
from services.runtime.errors import Reason
from services.runtime.telemetry import Telemetry


class _Measured:
    def __init__(self) -> None:
        self.status = "cancelled"
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def outcome(self, outcome: Outcome) -> None:
        """How the turn ended."""
        self.status = outcome.status.value
        self.prompt_tokens = outcome.usage.prompt_tokens
        self.completion_tokens = outcome.usage.completion_tokens


class TurnMetrics:
    """Duration and tokens of each turn, by model and by how it ended."""

    def __init__(self, telemetry: Telemetry) -> None:
        meter = telemetry.meter
        self._duration = meter.create_histogram(
            "chatmesh.turn.duration", unit="s", description="Generating an answer, from its start on a replica."
        )
        self._tokens = meter.create_counter("chatmesh.turn.tokens", unit="{token}", description="Tokens.")
        self._lost = meter.create_counter(
            "chatmesh.engines.lost",
            unit="{engine}",
            description="Engines that were lost before an answer was complete.",
        )
        self._late = meter.create_counter(
            "chatmesh.tokens.after_stop", unit="{token}", description="Tokens that came after a generation was stopped."
        )
        self._escalations = meter.create_counter(
            "chatmesh.escalations", unit="{generation}", description="Answers that were too weak to be shown."
        )
        self._taken_over = meter.create_counter(
            "chatmesh.generations.taken_over", unit="{generation}", description="Generations of dead servers."
        )
        self._running = meter.create_up_down_counter("chatmesh.turns.running", description="Turns that run now.")

    def engine_lost(self, model: str, reason: Reason) -> None:
        """An engine failed or stalled in the middle of an answer, or before it."""
        self._lost.add(1, {"gen_ai.request.model": model, "reason": reason.value})

    def escalation(self, weak: str, strong: str, *, failed: Reason | None = None) -> None:
        """A model was too weak for a request, and another one answers, unless none could."""
        self._escalations.add(1, {"weak": weak, "strong": strong, "failed": failed.value if failed else ""})

    def tokens_after_stop(self, tokens: int) -> None:
        """An engine gave tokens after it was told to stop."""
        self._late.add(tokens)

    def taken_over(self) -> None:
        """A generation of a dead server goes on here."""
        self._taken_over.add(1)

    @contextmanager
    def turn(self, model: str) -> Iterator[_Measured]:
        """Measure one turn."""
        measured = _Measured()
        started = time.perf_counter()
        self._running.add(1)
        try:
            yield measured
        finally:
            self._running.add(-1)
            labels = {"gen_ai.request.model": model}
            self._duration.record(time.perf_counter() - started, {**labels, "status": measured.status})
            self._tokens.add(measured.prompt_tokens, {**labels, "gen_ai.token.type": "input"})
            self._tokens.add(measured.completion_tokens, {**labels, "gen_ai.token.type": "output"})


class LateMetrics:
    """Verdicts of moderation that came late, by what they have led to."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._verdicts = telemetry.meter.create_counter(
            "chatmesh.moderation.late_verdicts", description="Late verdicts by effect."
        )

    def verdict(self, effect: str) -> None:
        """One was dealt with."""
        self._verdicts.add(1, {"effect": effect})


class FeedbackMetrics:
    """What users think of answers, by model and by how they were routed."""

    def __init__(self, telemetry: Telemetry) -> None:
        meter = telemetry.meter
        self._ratings = meter.create_up_down_counter(
            "chatmesh.feedback.ratings",
            unit="{rating}",
            description="Ratings that were given since the start, less those that were changed or taken back.",
        )
        self._changes = meter.create_counter(
            "chatmesh.feedback.changes", unit="{change}", description="How often a rating was given or taken back."
        )

    def rated(self, *, before: Rating, after: Rating, model: str, rule: str, engine: str) -> None:
        """Count that an answer's rating was replaced. `rule` and `engine` are of its route."""
        labels = {"gen_ai.request.model": model, "rule": rule, "engine": engine}
        for rating, amount in ((before, -1), (after, 1)):
            if rating is not Rating.NONE and before is not after:
                self._ratings.add(amount, {**labels, "rating": rating.value})
        if before is not Rating.NONE or after is not Rating.NONE:
            self._changes.add(1, {**labels, "rating": after.value or "none"})
