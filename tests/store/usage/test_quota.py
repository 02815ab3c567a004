"""Leases and settlements, with the day's counters in Redis and the rows behind them in PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from opentelemetry.metrics import NoOpMeter
from redis.asyncio import Redis

from services.runtime.errors import DomainError, Reason
from services.runtime.identity import Identity
from services.runtime.redis import connect_redis
from services.usage.counters import Counters
from services.usage.metrics import UsageMetrics
from services.usage.model import UsageRecord
from services.usage.quota import Quota
from services.usage.quota_counters import QuotaCounters
from services.usage.store import UsageStore
from services.usage.tiers import RateEntry, TierEntry, Tiers
from tests.store.usage.conftest import HeldClock

ANN = Identity("ann", "free")
LIMIT = 1000


def quota_on(counters: Counters, store: UsageStore, clock: HeldClock, *, fail_open: bool = True) -> Quota:
    return Quota(
        tiers=Tiers(
            default="free",
            tiers={"free": TierEntry(requests_per_minute=1, tokens_per_day=LIMIT)},
            anonymous=RateEntry(requests_per_minute=1),
        ),
        counters=QuotaCounters(counters=counters, day_rows=store.day),
        store=store,
        clock=clock,
        metrics=UsageMetrics(meter=NoOpMeter("test")),
        lease_for=timedelta(minutes=15),
        fail_open=fail_open,
    )


@pytest.fixture
def quota(counters: Counters, store: UsageStore, clock: HeldClock) -> Quota:
    return quota_on(counters, store, clock)


def record(generation_id: str, tokens: int, clock: HeldClock, *, user_id: str = "ann") -> UsageRecord:
    return UsageRecord(
        generation_id=generation_id,
        user_id=user_id,
        conversation_id="c",
        model="small",
        tier="free",
        prompt_tokens=tokens - 1,
        completion_tokens=1,
        cached_tokens=0,
        finish_reason="stop",
        ended_at=clock.now(),
    )


async def today(quota: Quota) -> int:
    return (await quota.report(ANN, days=1)).tokens_today


async def test_a_lease_is_set_aside_and_settled(quota: Quota, clock: HeldClock) -> None:
    lease = await quota.acquire(ANN, "g1", tokens=300)
    assert (lease.granted, lease.remaining) == (300, 700)
    assert lease.expires_at == clock.now() + timedelta(minutes=15)
    assert await today(quota) == 300
    assert await quota.settle([record("g1", 120, clock)]) == 1
    assert await today(quota) == 120
    assert (await quota.acquire(ANN, "g2", tokens=1)).remaining == 879


async def test_the_same_generation_gets_the_same_lease(quota: Quota) -> None:
    first = await quota.acquire(ANN, "g1", tokens=300)
    assert await quota.acquire(ANN, "g1", tokens=500) == first
    assert await today(quota) == 300


async def test_a_settlement_counts_once(quota: Quota, clock: HeldClock) -> None:
    await quota.acquire(ANN, "g1", tokens=300)
    records = [record("g1", 120, clock), record("g1", 120, clock), record("g2", 30, clock)]
    assert await quota.settle(records) == 2
    assert await quota.settle(records) == 0
    await asyncio.gather(*(quota.settle(records) for _ in range(5)))
    assert await today(quota) == 150


async def test_a_settlement_whose_caller_never_heard_of_it_is_counted_by_the_next(
    quota: Quota, store: UsageStore, clock: HeldClock
) -> None:
    """The rows were stored, and then the process ended."""
    await quota.acquire(ANN, "g1", tokens=300)
    await store.record([record("g1", 120, clock)])
    assert await quota.settle([record("g1", 120, clock)]) == 0
    assert await today(quota) == 120


async def test_the_last_tokens_are_given_and_then_no_more(quota: Quota, clock: HeldClock) -> None:
    await quota.acquire(ANN, "g1", tokens=900)
    lease = await quota.acquire(ANN, "g2", tokens=900)
    assert (lease.granted, lease.remaining) == (100, 0)
    with pytest.raises(DomainError) as caught:
        await quota.acquire(ANN, "g3", tokens=1)
    error = caught.value
    assert error.reason is Reason.QUOTA_EXCEEDED
    assert error.retry_after_s == 12 * 3600
    assert error.metadata == {"quota": "tokens_per_day", "limit": "1000", "used": "0"}
    await quota.settle([record("g1", 10, clock)])
    assert (await quota.acquire(ANN, "g3", tokens=1)).granted == 1


async def test_parallel_leases_never_exceed_the_quota(quota: Quota) -> None:
    async def acquire(number: int) -> int:
        try:
            return (await quota.acquire(ANN, f"g{number}", tokens=70)).granted
        except DomainError:
            return 0

    granted = await asyncio.gather(*(acquire(number) for number in range(40)))
    assert sum(granted) == LIMIT
    assert await today(quota) == LIMIT


async def test_a_lease_that_nobody_settles_falls_back(quota: Quota, clock: HeldClock) -> None:
    await quota.acquire(ANN, "g1", tokens=1000)
    clock.advance(minutes=14)
    with pytest.raises(DomainError):
        await quota.acquire(ANN, "g2", tokens=10)
    clock.advance(minutes=2)
    assert (await quota.acquire(ANN, "g2", tokens=10)).remaining == 990
    # Its settlement comes late and counts all the same.
    await quota.settle([record("g1", 600, clock)])
    assert await today(quota) == 610


async def test_a_new_day_has_a_new_quota(quota: Quota, clock: HeldClock) -> None:
    await quota.acquire(ANN, "g1", tokens=1000)
    clock.advance(hours=12)
    assert (await quota.acquire(ANN, "g2", tokens=10)).remaining == 990


async def test_users_are_apart(quota: Quota) -> None:
    await quota.acquire(ANN, "g1", tokens=1000)
    assert (await quota.acquire(Identity("bob", "gold"), "g2", tokens=1000)).granted == 1000


async def test_counters_that_redis_lost_are_made_from_the_rows(quota: Quota, clock: HeldClock, redis: Redis) -> None:
    await quota.settle([record("g1", 400, clock), record("g2", 500, clock)])
    await quota.acquire(ANN, "g3", tokens=10)
    await redis.flushall()
    assert await today(quota) == 900
    assert (await quota.acquire(ANN, "g4", tokens=500)).granted == 100
    # A settlement that is repeated after the loss is not counted again.
    assert await quota.settle([record("g1", 400, clock)]) == 0
    assert await today(quota) == 1000


async def test_a_settlement_beside_the_rebuilding_is_counted_once(
    counters: Counters, store: UsageStore, clock: HeldClock
) -> None:
    """The rows are read, a generation is settled, and only then the counters are made from what was read."""
    settling = quota_on(counters, store, clock)
    await settling.settle([record("old", 100, clock)])
    await counters._redis.flushall()

    async def rows_with_a_delay(user_id: str, day: object) -> dict[str, int]:
        rows = dict(await store.day("ann", clock.now().date()))
        await settling.settle([record("new", 50, clock)])
        return rows

    slow = QuotaCounters(counters=counters, day_rows=rows_with_a_delay)
    await slow.acquire("ann", "g", tokens=1, limit=LIMIT, now=clock.now(), lease_for=timedelta(minutes=1))
    assert await today(settling) == 151


async def test_report(quota: Quota, clock: HeldClock) -> None:
    await quota.settle([record("g1", 100, clock), record("g2", 50, clock), record("x", 7, clock, user_id="bob")])
    old = replace(record("g0", 11, clock), ended_at=datetime(2026, 3, 1, tzinfo=UTC))
    ancient = replace(record("g00", 11, clock), ended_at=datetime(2025, 3, 1, tzinfo=UTC))
    await quota.settle([old, ancient])
    report = await quota.report(ANN, days=0)
    assert [(str(row.day), row.generations, row.prompt_tokens, row.completion_tokens) for row in report.daily] == [
        ("2026-03-04", 2, 148, 2),
        ("2026-03-01", 1, 10, 1),
    ]
    assert (report.tier, report.tokens_per_day, report.tokens_today) == ("free", LIMIT, 150)
    assert [str(row.day) for row in (await quota.report(ANN, days=1)).daily] == ["2026-03-04"]


async def test_without_redis_the_setting_decides(store: UsageStore, clock: HeldClock) -> None:
    async with connect_redis("redis://127.0.0.1:1") as nowhere:
        counters = Counters(redis=nowhere, clock=clock)
        lease = await quota_on(counters, store, clock).acquire(ANN, "g1", tokens=300)
        assert lease.granted == 300
        with pytest.raises(DomainError) as caught:
            await quota_on(counters, store, clock, fail_open=False).acquire(ANN, "g1", tokens=300)
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_without_redis_a_settlement_is_stored_and_asked_for_again(
    store: UsageStore, clock: HeldClock, counters: Counters
) -> None:
    async with connect_redis("redis://127.0.0.1:1") as nowhere:
        broken = quota_on(Counters(redis=nowhere, clock=clock), store, clock)
        with pytest.raises(DomainError) as caught:
            await broken.settle([record("g1", 100, clock)])
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        assert await today(broken) == 100
    quota = quota_on(counters, store, clock)
    assert await quota.settle([record("g1", 100, clock)]) == 0
    await quota.acquire(ANN, "g2", tokens=1)
    assert await today(quota) == 101


async def test_a_forgotten_user_has_no_records_and_todays_quota_is_not_renewed(
    quota: Quota, store: UsageStore, clock: HeldClock
) -> None:
    await quota.settle([record(f"g{n}", 100, clock) for n in range(3)])
    old = replace(record("old", 7, clock), ended_at=datetime(2026, 3, 3, 23, tzinfo=UTC))
    await quota.settle([old, record("b", 50, clock, user_id="bob")])
    await quota.acquire(ANN, "open", tokens=200)
    assert await today(quota) == 500

    assert await quota.forget(ANN) == 4
    report = await quota.report(ANN, days=0)
    assert (report.daily, report.tokens_today) == ((), 500)
    # What was used and set aside today counts on, and what was set aside is given back as ever.
    assert (await quota.acquire(ANN, "g9", tokens=1)).remaining == LIMIT - 501
    assert await quota.settle([record("open", 0, clock)]) == 1
    assert await today(quota) == 301
    # What was used is still there, under one name that is nobody's; nobody else is concerned.
    rows = await store._database.statement(
        "SELECT user_id, prompt_tokens + completion_tokens FROM usage.records WHERE generation_id <> 'open'"
    )
    assert sorted(tokens for _, tokens in rows) == [7, 50, 100, 100, 100]
    names = {name for name, _ in rows} - {"bob"}
    assert len(names) == 1
    assert "ann" not in names.pop()
    # Sent once more by a caller that never heard of it, a record brings the name back neither.
    assert await quota.forget(ANN) == 1
    assert await quota.settle([record("g0", 100, clock)]) == 0
    assert (await quota.report(ANN, days=0)).daily == ()
    assert await quota.forget(ANN) == 0
    clock.advance(hours=24)
    assert await today(quota) == 0


async def test_forgetting_takes_as_many_statements_as_it_needs(
    quota: Quota, store: UsageStore, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.usage.store.RENAMED_AT_ONCE", 2)
    await quota.settle([record(f"g{n}", 10, clock) for n in range(5)])
    assert await quota.forget(ANN) == 5
    assert len(set(await store._database.statement("SELECT user_id FROM usage.records"))) == 1


async def test_without_redis_users_are_forgotten_all_the_same(
    store: UsageStore, clock: HeldClock, counters: Counters
) -> None:
    working = quota_on(counters, store, clock)
    await working.acquire(ANN, "g1", tokens=10)
    await working.settle([record("g1", 10, clock)])
    async with connect_redis("redis://127.0.0.1:1") as nowhere:
        assert await quota_on(Counters(redis=nowhere, clock=clock), store, clock).forget(ANN) == 1
    assert (await working.report(ANN, days=0)).daily == ()
    assert await today(working) == 10
