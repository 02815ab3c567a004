"""Events to put into the queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint

from services.moderation.model import Action, Direction, Event, Finding, Layer, Outcome, Subject
from services.runtime.clock import new_id

DEADLINE_S = 30.0
NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


class HandClock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self._now = NOON

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._now.timestamp()

    def advance(self, **by: float) -> None:
        self._now += timedelta(**by)


def finding(category: str, action: Action, *, start: int = 0, end: int = 4, rule: str = "classifier") -> Finding:
    return Finding(start, end, Outcome(category, rule, action, "", Layer.CLASSIFIER), 0.9375)


def event(
    *,
    text: str | None = "how to hurt 😀 people",
    user: str = "ann",
    generation: str = "g1",
    action: Action = Action.HOLD,
    category: str = "violence",
    direction: Direction = Direction.INPUT,
    pending: bool = True,
    late: bool = False,
    after_s: float = 0,
    kept_s: float = 86_400,
    at: datetime = NOON,
) -> Event:
    created = at + timedelta(seconds=after_s)
    return Event(
        event_id=new_id(),
        created_at=created,
        subject=Subject(generation, "c1", user, "acme", "plus"),
        direction=direction,
        action=action,
        category=category,
        findings=(finding(category, action),),
        text_sha256=sha256((text or "gone").encode(errors="surrogatepass")).hexdigest(),
        text_length=len(text or "gone"),
        text=text,
        expires_at=created + timedelta(seconds=kept_s),
        policy_version="p1",
        pending=pending,
        late=late,
    )


def count(reader: InMemoryMetricReader, name: str, **labels: str) -> float:
    """The sum of what a counter has counted under these labels."""
    data = reader.get_metrics_data()
    return sum(
        point.value
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint) and labels.items() <= dict(point.attributes or {}).items()
    )


async def eventually(condition: Callable[[], Awaitable[object]], what: str) -> None:
    """Wait until the condition holds; fail naming `what` when it does not in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not await condition():
        assert time.monotonic() < deadline, f"not in {DEADLINE_S:g} s: {what}"
        await asyncio.sleep(0.02)
