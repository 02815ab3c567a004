"""The review queue on a real PostgreSQL and a real Redis, time in the hands of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from redis.asyncio import Redis

from services.moderation.review.metrics import ReviewMetrics
from services.moderation.review.schema import MIGRATIONS
from services.moderation.review.store import EventStore
from services.runtime.database import Database
from services.runtime.migrations import migrate
from services.runtime.redis import connect_redis
from tests.store.moderation.events import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    await migrate(postgres_url, schema="moderation", directory=MIGRATIONS)
    async with Database(postgres_url) as opened:
        yield opened


@pytest.fixture
def store(database: Database, clock: HandClock) -> EventStore:
    return EventStore(database=database, clock=clock)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with connect_redis(redis_url) as client:
        yield client


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def metrics(reader: InMemoryMetricReader) -> ReviewMetrics:
    return ReviewMetrics(meter=MeterProvider([reader]).get_meter("test"))
