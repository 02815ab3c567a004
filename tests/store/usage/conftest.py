"""The counters on a real Redis, the rows on a real PostgreSQL, time in the hands of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from services.runtime.database import Database
from services.runtime.migrations import migrate
from services.runtime.redis import connect_redis
from services.usage.__main__ import MIGRATIONS
from services.usage.counters import Counters
from services.usage.store import UsageStore


class HeldClock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self._now = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, **by: float) -> None:
        self._now += timedelta(**by)
        self._monotonic += timedelta(**by).total_seconds()


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with connect_redis(redis_url) as client:
        yield client


@pytest.fixture
def counters(redis: Redis, clock: HeldClock) -> Counters:
    return Counters(redis=redis, clock=clock)


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[UsageStore]:
    await migrate(postgres_url, schema="usage", directory=MIGRATIONS)
    async with Database(postgres_url) as database:
        yield UsageStore(database=database)
