"""Late verdicts on a real Redis."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from redis.asyncio import Redis

from chatmesh.moderation.v1 import late_verdict_pb2
from services.moderation.late import publisher as module
from services.moderation.late.publisher import FIELD, MAX_AGE, STREAM, LatePublisher
from services.moderation.late.verdict import LateAction, LateVerdict
from services.moderation.model import Direction
from services.moderation.review.metrics import ReviewMetrics
from services.moderation.review.model import Decision
from services.moderation.review.restoration import Restoration
from services.moderation.review.store import EventStore
from services.moderation.review.upkeep import Upkeep
from services.runtime.clock import SystemClock
from services.runtime.errors import DomainError, Reason
from services.runtime.redis import connect_redis
from tests.rpc.conversation.tcp_proxy import running_proxy
from tests.store.moderation.events import HandClock, count, event, eventually

RETRACT = LateVerdict(
    generation_id="g1",
    user_id="ann",
    action=LateAction.RETRACT,
    direction=Direction.OUTPUT,
    category="violence",
    event_id="e1",
    policy_version="p1",
    replacement="[removed]",
)


async def published(redis: Redis) -> list[late_verdict_pb2.LateVerdict]:
    entries: Any = await redis.xrange(STREAM)
    return [late_verdict_pb2.LateVerdict.FromString(fields[FIELD.encode()]) for _, fields in entries]


async def overturned(store: EventStore, **about: object) -> str:
    held = event(**about)  # type: ignore[arg-type]
    await store.record([held])
    await store.claim(held.event_id, reviewer="rita", lease=timedelta(minutes=5))
    await store.decide(held.event_id, reviewer="rita", decision=Decision.OVERTURN, comment="", category="")
    return held.event_id


async def test_a_verdict_is_an_entry_of_the_stream(redis: Redis) -> None:
    await LatePublisher(redis=redis, clock=SystemClock()).publish(RETRACT)
    assert await published(redis) == [
        late_verdict_pb2.LateVerdict(
            generation_id="g1",
            user_id="ann",
            action=late_verdict_pb2.LATE_ACTION_RETRACT,
            category="violence",
            event_id="e1",
            policy_version="p1",
            replacement="[removed]",
        )
    ]


async def test_the_stream_is_bounded_by_number_and_by_age(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 100)
    now = SystemClock().now()
    old = int((now - MAX_AGE - timedelta(hours=1)).timestamp() * 1000)
    for number in range(3):
        await redis.xadd(STREAM, {FIELD: b""}, id=f"{old}-{number + 1}")
    publisher = LatePublisher(redis=redis, clock=SystemClock())
    await publisher.publish(RETRACT)
    assert await redis.xlen(STREAM) == 4
    await publisher.trim()
    assert len(await published(redis)) == 1
    for _ in range(1000):
        await publisher.publish(RETRACT)
    assert 100 <= await redis.xlen(STREAM) < 1000


async def test_a_decision_that_overturns_gives_the_text_back_once(
    store: EventStore, redis: Redis, metrics: ReviewMetrics, reader: InMemoryMetricReader, clock: HandClock
) -> None:
    restoration = Restoration(store=store, publisher=LatePublisher(redis=redis, clock=clock), metrics=metrics)
    event_id = await overturned(store, text="hello 😀", direction=Direction.OUTPUT)
    asked = await overturned(store, generation="g2")
    assert await restoration.sweep()
    assert await restoration.sweep()
    answer, question = await published(redis)
    assert answer == late_verdict_pb2.LateVerdict(
        generation_id="g1",
        user_id="ann",
        action=late_verdict_pb2.LATE_ACTION_RESTORE,
        category="violence",
        event_id=event_id,
        policy_version="p1",
        text="hello 😀",
    )
    assert (question.event_id, question.input, question.generation_id) == (asked, True, "g2")
    assert count(reader, "chatmesh.moderation.restored", category="violence") == 2


async def test_what_was_decided_without_redis_is_published_when_it_is_back(
    store: EventStore, metrics: ReviewMetrics, clock: HandClock, redis: Redis, redis_url: str
) -> None:
    socket = Path(redis_url.removeprefix("unix://"))
    async with running_proxy(socket) as proxy, connect_redis(f"redis://127.0.0.1:{proxy.port}") as far:
        await proxy.down()
        publisher = LatePublisher(redis=far, clock=clock)
        with pytest.raises(DomainError) as caught:
            await publisher.publish(RETRACT)
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        assert caught.value.metadata == {"service": "redis"}
        event_id = await overturned(store)
        restoration = Restoration(store=store, publisher=publisher, metrics=metrics)
        assert not await restoration.sweep()
        assert len(await store.unpublished()) == 1
        task = asyncio.create_task(restoration.run())
        try:
            await proxy.up()

            async def all_published() -> bool:
                return not await store.unpublished()

            await eventually(all_published, "all is published")
            assert [verdict.event_id for verdict in await published(redis)] == [event_id]
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_the_upkeep_forgets_deletes_and_looks_at_the_queue(
    store: EventStore, redis: Redis, metrics: ReviewMetrics, reader: InMemoryMetricReader, clock: HandClock
) -> None:
    upkeep = Upkeep(
        store=store,
        publisher=LatePublisher(redis=redis, clock=clock),
        metrics=metrics,
        events_kept=lambda: timedelta(days=30),
    )
    old, held = event(), event(after_s=86_400, kept_s=60)
    await store.record([old, held])
    clock.advance(days=30, seconds=30)
    await upkeep.sweep()
    with pytest.raises(DomainError):
        await store.get(old.event_id, reviewer="rita")
    assert (await store.get(held.event_id, reviewer="rita")).text_kept is False
    assert count(reader, "chatmesh.moderation.review_waiting") == 1
    assert count(reader, "chatmesh.moderation.review_oldest") == 29 * 86_400 + 30
