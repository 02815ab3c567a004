"""The review queue with all that it needs, as one part of the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from opentelemetry.metrics import Meter

from services.moderation.late.publisher import LatePublisher
from services.moderation.review.metrics import ReviewMetrics
from services.moderation.review.recorder import EventRecorder
from services.moderation.review.restoration import Restoration
from services.moderation.review.schema import Schema
from services.moderation.review.service import ReviewServicer
from services.moderation.review.store import EventStore
from services.moderation.review.upkeep import Upkeep
from services.runtime.background import Background
from services.runtime.clock import Clock
from services.runtime.database import Database
from services.runtime.redis import connect_redis


@dataclass(frozen=True, slots=True)
class Review:
    """What the rest of the process uses of it."""

    recorder: EventRecorder
    publisher: LatePublisher
    servicer: ReviewServicer


@asynccontextmanager
async def review(
    *, database_url: str, redis_url: str, clock: Clock, meter: Meter, events_kept: Callable[[], timedelta]
) -> AsyncIterator[Review]:
    """Run the review queue for as long as the block lasts. Neither database nor Redis need be there.

    Args:
        database_url: PostgreSQL or CockroachDB.
        redis_url: Redis or Valkey.
        clock: The time.
        meter: For its metrics.
        events_kept: How long events are kept, asked for at each sweep: the policy may change.
    """
    schema = Schema(url=database_url)
    metrics = ReviewMetrics(meter=meter)
    async with (
        Database(database_url, max_size=4) as database,
        connect_redis(redis_url) as redis,
        Background() as background,
    ):
        store = EventStore(database=database, clock=clock)
        publisher = LatePublisher(redis=redis, clock=clock)
        recorder = EventRecorder(store=store, metrics=metrics)
        restoration = Restoration(store=store, publisher=publisher, metrics=metrics)
        upkeep = Upkeep(store=store, publisher=publisher, metrics=metrics, events_kept=events_kept)
        background.start(
            schema.migrate(), *(_after(schema, work) for work in (recorder.run(), restoration.run(), upkeep.run()))
        )
        servicer = ReviewServicer(schema=schema, store=store, restoration=restoration, metrics=metrics, clock=clock)
        try:
            yield Review(recorder, publisher, servicer)
        finally:
            await recorder.drain()


async def _after(schema: Schema, work: Coroutine[Any, Any, None]) -> None:
    try:
        await schema.wait()
    except BaseException:
        work.close()
        raise
    await work
