"""A consumer group on a real Redis: nothing is lost, whoever dies, and nothing that is done is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from services.runtime.stream_group import Entry, Pace, StreamGroup

STREAM, GROUP = "test:stream", "readers"
PATIENCE_S = 10.0
HURRIED = Pace(block_ms=5, claim_every_s=0.01, claim_after_ms=60, retry_s=0.01, max_tries=3)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


class Reader:
    """A process: `work` is what it does with an entry; without an error the entry is acknowledged."""

    def __init__(self, redis: Redis, name: str, pace: Pace = HURRIED) -> None:
        self.group = StreamGroup(redis=redis, stream=STREAM, group=GROUP, name=name, pace=pace)
        self.taken: list[str] = []
        self.given_up: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False

    async def take(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.taken.append(entry.fields[b"v"].decode())
            await self.gate.wait()
            if not self.fails:
                await self.group.acknowledge(entry)
            elif await self.group.failed(entry):
                self.given_up.append(entry.fields[b"v"].decode())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.group.run(self.take))
        try:
            yield task
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait([task])


async def say(redis: Redis, *words: str) -> None:
    for word in words:
        await redis.xadd(STREAM, {"v": word})


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - Redis tells of no events
            await asyncio.sleep(0.005)


async def pending(redis: Redis) -> int:
    answer: Any = await redis.xpending(STREAM, GROUP)
    return int(answer["pending"])


async def all_done(redis: Redis) -> None:
    async def done() -> bool:
        return await redis.xlen(STREAM) == 0 and await pending(redis) == 0

    await until(done)


async def test_each_entry_comes_to_one_reader_and_is_gone_when_it_is_done(redis: Redis) -> None:
    words = [f"w{number}" for number in range(50)]
    one, two = Reader(redis, "one"), Reader(redis, "two")
    await say(redis, *words[:10])
    async with one.running(), two.running():
        await say(redis, *words[10:])
        await all_done(redis)
    assert sorted(one.taken + two.taken) == sorted(words)


async def test_what_a_dead_reader_held_comes_to_another(redis: Redis) -> None:
    one, two = Reader(redis, "one"), Reader(redis, "two")
    one.gate.clear()
    async with one.running():
        await say(redis, "w")
        await until(lambda: _true(one.taken))
    # It is gone, with the entry in its hands.
    assert await pending(redis) == 1
    async with two.running():
        await all_done(redis)
    assert (one.taken, two.taken) == (["w"], ["w"])


async def _expired(redis: Redis) -> bool:
    """Whether the key is gone, or made anew: then it has no end."""
    return await redis.pttl(STREAM) < 0


async def _true(value: object) -> bool:
    return bool(value)


async def test_what_a_living_reader_works_on_comes_to_nobody_else(redis: Redis) -> None:
    held = Pace(block_ms=5, claim_every_s=0.01, claim_after_ms=60, hold_s=30)
    one, two = Reader(redis, "one", held), Reader(redis, "two", held)
    one.gate.clear()
    async with one.running(), two.running():
        # One of them takes it, and works on for longer than it would be left to a dead one.
        two.gate.clear()
        await say(redis, "w")
        await until(lambda: _true(one.taken or two.taken))
        for _ in range(40):
            await asyncio.sleep(0.01)
            await redis.ping()
        one.gate.set()
        two.gate.set()
        await all_done(redis)
    assert len(one.taken + two.taken) == 1


async def test_without_a_hold_it_comes_to_another(redis: Redis) -> None:
    one, two = Reader(redis, "one"), Reader(redis, "two")
    one.gate.clear()
    async with one.running():
        await say(redis, "w")
        await until(lambda: _true(one.taken))
        async with two.running():
            await until(lambda: _true(two.taken))
            await all_done(redis)
        one.gate.set()


async def test_what_fails_is_tried_again_and_then_given_up(redis: Redis) -> None:
    reader = Reader(redis, "one")
    reader.fails = True
    async with reader.running():
        await say(redis, "w")
        await all_done(redis)
    assert (reader.taken, reader.given_up) == (["w"] * 3, ["w"])


async def test_what_its_readers_die_of_is_given_up(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    pace = Pace(block_ms=5, claim_every_s=0.01, claim_after_ms=10, max_deliveries=2)
    for number in range(2):
        victim = Reader(redis, f"victim{number}", pace)
        victim.gate.clear()
        async with victim.running():
            if number == 0:
                await say(redis, "poison")
            await until(lambda victim=victim: _true(victim.taken))  # type: ignore[misc]
    last = Reader(redis, "last", pace)
    async with last.running():
        await say(redis, "food")
        await all_done(redis)
    assert last.taken == ["food"]
    assert [record.message for record in caplog.records] == ["an entry is given up"]


@pytest.mark.parametrize("block_ms", [5, 500])
async def test_a_stream_that_has_expired(redis: Redis, caplog: pytest.LogCaptureFixture, block_ms: int) -> None:
    reader = Reader(redis, "one", Pace(block_ms=block_ms, claim_every_s=0.01, claim_after_ms=60, retry_s=0.01))
    async with reader.running():
        await say(redis, "before")
        await all_done(redis)
        await redis.pexpire(STREAM, 20)
        await until(lambda: _expired(redis))
        await say(redis, "after")
        await until(lambda: _true(reader.taken == ["before", "after"]))
        await all_done(redis)
    assert caplog.records == []


async def test_connections_that_break(redis: Redis, redis_url: str) -> None:
    reader = Reader(redis, "one")
    async with Redis.from_url(redis_url) as other, reader.running():
        for number in range(5):
            await other.client_kill_filter(_type="normal", skipme=True)
            await say(other, f"w{number}")
        await all_done(other)
    assert set(reader.taken) == {f"w{number}" for number in range(5)}


async def test_readers_that_are_long_gone_are_forgotten(redis: Redis) -> None:
    pace = Pace(block_ms=5, claim_every_s=0.01, claim_after_ms=30, forget_after_ms=50)
    async with Reader(redis, "gone", pace).running():
        await say(redis, "w")
        await all_done(redis)

    async def names() -> list[bytes]:
        consumers: Any = await redis.xinfo_consumers(STREAM, GROUP)
        return [consumer["name"] for consumer in consumers]

    assert await names() == [b"gone"]
    async with Reader(redis, "here", pace).running():
        await say(redis, "w")

        async def only_one() -> bool:
            return await names() == [b"here"]

        await until(only_one)


async def test_an_error_of_the_reader_is_not_swallowed(redis: Redis) -> None:
    async def take(entries: Sequence[Entry]) -> None:
        raise LookupError

    await say(redis, "w")
    group = StreamGroup(redis=redis, stream=STREAM, group=GROUP, name="one", pace=HURRIED)
    with pytest.raises(LookupError):
        await asyncio.wait_for(group.run(take), PATIENCE_S)


def test_positions_are_in_the_order_of_the_entries() -> None:
    ids = ["9-2", "9-10", "1000-1"]
    positions = [Entry(id_, {}).position for id_ in ids]
    assert positions == sorted(positions)
    assert Entry("1000-1", {}).time_ms == 1000
