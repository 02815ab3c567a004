from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

import pytest

from services.cli.embedded import start_redis
from services.runtime.redis import connect_redis
from services.usage.counters import PAUSE_S, Counters, CountersUnavailableError
from tests.store.usage.conftest import HeldClock


@asynccontextmanager
async def in_thread(server: AbstractContextManager[str]) -> AsyncIterator[str]:
    """A server whose start and stop wait, without holding up the test's loop."""
    url = await asyncio.to_thread(server.__enter__)
    try:
        yield url
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


async def test_redis_goes_and_comes_back(clock: HeldClock, caplog: pytest.LogCaptureFixture) -> None:
    with tempfile.TemporaryDirectory(prefix="cm-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        (sockets := folder / "s").mkdir()
        async with in_thread(start_redis(folder / "data", socket_dir=sockets)) as url:
            client = connect_redis(url)
            counters = Counters(redis=client, clock=clock)
            script = counters.script("rate")
            assert await counters.run(script, ["k"], [1_000_000, 5, 1])
        for _ in range(3):
            with pytest.raises(CountersUnavailableError):
                await counters.run(script, ["k"], [1_000_000, 5, 1])
            clock.advance(seconds=PAUSE_S)
        with pytest.raises(CountersUnavailableError):
            await counters.run(script, ["k"], [1_000_000, 5, 1])
        async with in_thread(start_redis(folder / "data", socket_dir=sockets)):
            # It answers again, but is left alone for a moment longer.
            with pytest.raises(CountersUnavailableError):
                await counters.run(script, ["k"], [1_000_000, 5, 1])
            clock.advance(seconds=PAUSE_S)
            assert await counters.run(script, ["k"], [1_000_000, 5, 1])
            await client.aclose()
    assert [entry.message for entry in caplog.records if entry.name == "services.usage.counters"] == [
        "redis does not answer",
        "redis answers again",
    ]
