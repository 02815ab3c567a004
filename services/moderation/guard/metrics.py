"""What is counted of the guard. Labels come from the policy and the templates, never from a text."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.metrics import Meter

from services.moderation.guard.model import Drop, Mode
from services.moderation.model import Direction

_SECONDS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 60.0]


class GuardMetrics:
    """Counts what the guard was asked and what came of it."""

    def __init__(self, *, meter: Meter) -> None:
        self._seconds = meter.create_histogram(
            "chatmesh.moderation.guard.duration",
            unit="s",
            description="Time until the guard answered, or was given up, by mode.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._verdicts = meter.create_counter(
            "chatmesh.moderation.guard.verdicts",
            description="Questions to the guard, by mode, direction, and what it said: safe, unsafe, or why nothing.",
        )
        self._codes = meter.create_counter(
            "chatmesh.moderation.guard.codes",
            description="Codes that the guard gave, also those of no category of the policy.",
        )
        self._offered = meter.create_counter(
            "chatmesh.moderation.guard.offered", description="Texts to be looked at in the background."
        )
        self._dropped = meter.create_counter(
            "chatmesh.moderation.guard.dropped", description="Texts that were not looked at after all, and why."
        )
        self._retracted = meter.create_counter(
            "chatmesh.moderation.guard.retracted",
            description="Texts that were let through and are taken back, by direction and category.",
        )

    def asked(self, mode: Mode, direction: Direction, *, verdict: str, codes: Sequence[str], seconds: float) -> None:
        """A question was answered, or given up."""
        self._seconds.record(seconds, {"mode": mode.value})
        self._verdicts.add(1, {"mode": mode.value, "direction": direction.value, "verdict": verdict})
        for code in codes:
            self._codes.add(1, {"direction": direction.value, "code": code})

    def offered(self, direction: Direction) -> None:
        """A text is to be looked at."""
        self._offered.add(1, {"direction": direction.value})

    def dropped(self, why: Drop) -> None:
        """A text is not looked at."""
        self._dropped.add(1, {"reason": why.value})

    def retracted(self, direction: Direction, category: str) -> None:
        """A text is taken back."""
        self._retracted.add(1, {"direction": direction.value, "category": category})
