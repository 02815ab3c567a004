"""Events that are recorded in the background, with a database that comes and goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from services.moderation.model import Event
from services.moderation.review import recorder as module
from services.moderation.review.metrics import ReviewMetrics
from services.moderation.review.recorder import EventRecorder
from services.moderation.review.store import EventStore
from services.runtime.database import Database
from tests.rpc.conversation.tcp_proxy import Proxy, running_proxy
from tests.store.moderation.events import HandClock, count, event, eventually


async def stored(database: Database) -> set[str]:
    return {event_id for (event_id,) in await database.statement("SELECT id::TEXT FROM moderation.events")}


@asynccontextmanager
async def at_work(recorder: EventRecorder) -> AsyncIterator[None]:
    task = asyncio.create_task(recorder.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[Proxy]:
    (folder,) = parse_qs(urlsplit(postgres_url).query)["host"]
    async with running_proxy(Path(folder) / ".s.PGSQL.5432") as running:
        yield running


@pytest.fixture
async def far(postgres_url: str, proxy: Proxy, clock: HandClock) -> AsyncIterator[EventStore]:
    """The store over a connection that can be cut."""
    parts = urlsplit(postgres_url)
    url = f"postgresql://{parts.username}@127.0.0.1:{proxy.port}{parts.path}"
    async with Database(url) as database:
        yield EventStore(database=database, clock=clock)


async def test_all_that_comes_is_stored(
    database: Database, store: EventStore, metrics: ReviewMetrics, reader: InMemoryMetricReader
) -> None:
    recorder = EventRecorder(store=store, metrics=metrics)
    early = [event() for _ in range(3)]
    for each in early:
        recorder.record(each)
    async with at_work(recorder):
        late = [event(pending=number % 2 == 0) for number in range(500)]
        for each in late:
            recorder.record(each)
            await asyncio.sleep(0)
        await recorder.drain()
        assert await stored(database) == {each.event_id for each in (*early, *late)}
        assert count(reader, "chatmesh.moderation.events", action="hold", direction="input", late="false") == 503
        assert count(reader, "chatmesh.moderation.events_dropped") == 0
        await recorder.drain()


async def test_a_database_that_was_away_gets_what_came_meanwhile(
    database: Database, far: EventStore, metrics: ReviewMetrics, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = EventRecorder(store=far, metrics=metrics)
    async with at_work(recorder):
        first = event()
        recorder.record(first)
        await recorder.drain()
        assert await stored(database) == {first.event_id}
        await proxy.down()
        meanwhile = [event(text="the secret words") for _ in range(5)]
        for each in meanwhile:
            recorder.record(each)
        await eventually(lambda: _logged(caplog, "events are not recorded yet"), "it is noticed")
        assert await stored(database) == {first.event_id}
        await proxy.up()
        wanted = {each.event_id for each in (first, *meanwhile)}

        async def all_there() -> bool:
            return await stored(database) == wanted

        await eventually(all_there, "all are stored")
    assert "secret words" not in caplog.text


async def test_a_reply_that_is_lost_makes_no_second_event(
    database: Database, far: EventStore, metrics: ReviewMetrics, proxy: Proxy
) -> None:
    recorder = EventRecorder(store=far, metrics=metrics)
    async with at_work(recorder):
        proxy.cut_after(b"moderation.events")
        recorder.record(lost := event())
        await recorder.drain()
        assert proxy.cuts == 1
        assert await stored(database) == {lost.event_id}


async def test_what_does_not_fit_is_dropped_oldest_first_but_not_what_waits_for_somebody(
    database: Database,
    store: EventStore,
    metrics: ReviewMetrics,
    reader: InMemoryMetricReader,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = EventRecorder(store=store, metrics=metrics, capacity=4)
    closed = [event(pending=False, text="the secret words") for _ in range(3)]
    pending = [event() for _ in range(3)]
    for each in (pending[0], *closed, *pending[1:]):
        recorder.record(each)
    async with at_work(recorder):
        await recorder.drain()
    assert await stored(database) == {each.event_id for each in (closed[2], *pending)}
    assert count(reader, "chatmesh.moderation.events_dropped", pending="false") == 2
    assert count(reader, "chatmesh.moderation.events_dropped", pending="true") == 0
    (line,) = [record for record in caplog.records if record.message == "events are lost"]
    assert line.__dict__["event_ids"] == [closed[0].event_id, closed[1].event_id]
    assert "secret words" not in caplog.text


async def test_only_so_much_text_waits(
    database: Database, store: EventStore, metrics: ReviewMetrics, reader: InMemoryMetricReader
) -> None:
    recorder = EventRecorder(store=store, metrics=metrics, capacity_characters=100)
    events = [event(text="x" * 40), event(text=None), event(text="y" * 40), event(text="z" * 40)]
    for each in events:
        recorder.record(each)
    async with at_work(recorder):
        await recorder.drain()
        assert await stored(database) == {each.event_id for each in events[1:]}
        # What was stored makes room.
        recorder.record(more := event(text="w" * 90))
        await recorder.drain()
        assert more.event_id in await stored(database)
    assert count(reader, "chatmesh.moderation.events_dropped", pending="true") == 1


async def test_an_event_that_cannot_be_stored_holds_up_no_others(
    database: Database, store: EventStore, metrics: ReviewMetrics, reader: InMemoryMetricReader
) -> None:
    recorder = EventRecorder(store=store, metrics=metrics)
    good: list[Event] = [event() for _ in range(4)]
    bad = replace(event(), event_id="none")
    for each in (*good[:2], bad, *good[2:]):
        recorder.record(each)
    async with at_work(recorder):
        await recorder.drain()
        assert await stored(database) == {each.event_id for each in good}
        recorder.record(after := event())
        await recorder.drain()
        assert after.event_id in await stored(database)
    assert count(reader, "chatmesh.moderation.events_dropped") == 1
    assert count(reader, "chatmesh.moderation.events") == 5


async def test_an_end_without_a_database_says_what_is_lost(
    far: EventStore,
    metrics: ReviewMetrics,
    reader: InMemoryMetricReader,
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DRAIN_S", 0.2)
    await proxy.down()
    recorder = EventRecorder(store=far, metrics=metrics)
    events = [event(), event(pending=False)]
    async with at_work(recorder):
        for each in events:
            recorder.record(each)
        await recorder.drain()
    assert count(reader, "chatmesh.moderation.events_dropped") == 2
    (line,) = [record for record in caplog.records if record.message == "events are lost"]
    assert line.levelno == logging.ERROR
    assert set(line.__dict__["event_ids"]) == {each.event_id for each in events}


async def _logged(caplog: pytest.LogCaptureFixture, message: str) -> bool:
    return any(record.message == message for record in caplog.records)
