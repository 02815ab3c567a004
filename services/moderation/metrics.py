"""What Moderation counts. Labels come from the policy, never from a text."""

from __future__ import annotations

from opentelemetry.metrics import Meter

from services.moderation.model import Action, Direction, Outcome


class ModerationMetrics:
    """Counts verdicts and findings, and how long the search for them takes."""

    def __init__(self, *, meter: Meter) -> None:
        self._verdicts = meter.create_counter(
            "chatmesh.moderation.verdicts", description="Texts judged, by direction and the strictest action."
        )
        self._findings = meter.create_counter(
            "chatmesh.moderation.findings", description="Findings, by direction, category, rule and action."
        )
        self._seconds = meter.create_histogram(
            "chatmesh.moderation.scan.duration",
            unit="s",
            description="Time to search what came in one message.",
            explicit_bucket_boundaries_advisory=[1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2e-2, 0.1],
        )

    def judged(self, direction: Direction, action: Action) -> None:
        """A text was judged to its end."""
        self._verdicts.add(1, {"direction": direction.value, "action": action.name.lower()})

    def found(self, direction: Direction, outcome: Outcome) -> None:
        """A rule matched."""
        self._findings.add(
            1,
            {
                "direction": direction.value,
                "category": outcome.category,
                "rule": outcome.rule,
                "action": outcome.action.name.lower(),
            },
        )

    def scanned(self, direction: Direction, *, seconds: float) -> None:
        """The texts of one message were searched."""
        self._seconds.record(seconds, {"direction": direction.value})
