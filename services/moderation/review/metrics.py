"""What the review queue counts. Labels come from the policy, never from a text."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.metrics import Meter

from services.moderation.model import Event
from services.moderation.review.model import Decision, ReviewedEvent


class ReviewMetrics:
    """Counts events and decisions, and says how long the queue is."""

    def __init__(self, *, meter: Meter) -> None:
        self._events = meter.create_counter(
            "chatmesh.moderation.events",
            description="Events recorded, by direction, action and category, and whether they came late.",
        )
        self._dropped = meter.create_counter(
            "chatmesh.moderation.events_dropped",
            description="Events that could not be recorded, by whether somebody was to look at them.",
        )
        self._decisions = meter.create_counter(
            "chatmesh.moderation.decisions", description="Decisions of reviewers, by category and decision."
        )
        self._late = meter.create_counter(
            "chatmesh.moderation.restored", description="Texts given back after a decision, by category."
        )
        self._waiting = meter.create_gauge(
            "chatmesh.moderation.review_waiting", description="Events that nobody has decided on yet."
        )
        self._oldest = meter.create_gauge(
            "chatmesh.moderation.review_oldest", unit="s", description="How long the oldest of them has waited."
        )

    def recorded(self, events: Sequence[Event]) -> None:
        """Events were stored."""
        for event in events:
            self._events.add(
                1,
                {
                    "direction": event.direction.value,
                    "action": event.action.name.lower(),
                    "category": event.category,
                    "late": str(event.late).lower(),
                },
            )

    def dropped(self, event: Event) -> None:
        """An event was lost."""
        self._dropped.add(1, {"pending": str(event.pending).lower()})

    def decided(self, event: ReviewedEvent, decision: Decision) -> None:
        """Somebody decided."""
        self._decisions.add(1, {"category": event.event.category, "decision": decision.value})

    def restored(self, category: str) -> None:
        """A text was given back."""
        self._late.add(1, {"category": category})

    def queue(self, waiting: int, oldest_s: float) -> None:
        """The queue was looked at."""
        self._waiting.set(waiting)
        self._oldest.set(oldest_s)
