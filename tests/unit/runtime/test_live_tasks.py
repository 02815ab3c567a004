"""Work that outlives its caller, and how it ends with the process."""

from __future__ import annotations

import asyncio

import pytest

from services.runtime import live_tasks
from services.runtime.errors import DomainError, Reason
from services.runtime.live_tasks import LiveTasks


async def test_what_runs_may_end_within_the_grace() -> None:
    tasks = LiveTasks(grace_s=30)
    end, ended, stops = asyncio.Event(), [], []

    async def work() -> None:
        await end.wait()
        ended.append(True)

    tasks.start(work())
    draining = asyncio.create_task(tasks.drain(lambda: stops.append(True)))
    await asyncio.sleep(0)
    with pytest.raises(DomainError) as refused:
        tasks.require_open()
    assert refused.value.reason is Reason.DRAINING
    # What belongs to work that was begun before is still done, and waited for.
    tasks.start(work())
    assert not draining.done()
    end.set()
    await draining
    assert ended == [True, True]
    assert stops == []


async def test_what_takes_longer_is_asked_to_stop() -> None:
    tasks = LiveTasks(grace_s=0.01)
    end, ended = asyncio.Event(), []

    async def work() -> None:
        await end.wait()
        ended.append(True)

    tasks.start(work())
    await tasks.drain(end.set)
    assert ended == [True]


async def test_what_does_not_stop_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_tasks, "LAST_WORDS_S", 0.01)
    tasks = LiveTasks(grace_s=0.01)
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    tasks.start(work())
    await tasks.drain(lambda: None)
    async with asyncio.timeout(5):
        await cancelled.wait()


async def test_it_goes_on_without_its_caller() -> None:
    tasks = LiveTasks(grace_s=1)
    end, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await end.wait()
        ended.set()

    async def caller() -> None:
        tasks.start(work())
        await asyncio.Event().wait()

    calling = asyncio.create_task(caller())
    await asyncio.sleep(0)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    end.set()
    async with asyncio.timeout(5):
        await ended.wait()


async def test_nothing_to_wait_for() -> None:
    await LiveTasks(grace_s=30).drain(lambda: pytest.fail("nothing runs"))
