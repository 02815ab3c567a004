"""The stream of late verdicts on a real Redis: each takes effect once, whoever dies or is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from chatmesh.moderation.v1 import late_verdict_pb2
from services.conversation import late_verdicts
from services.conversation.late_model import LateVerdict
from services.conversation.late_store import Effect
from services.conversation.late_verdicts import GROUP, STREAM, LateVerdicts
from services.conversation.log_store import LogUnavailableError
from services.runtime.errors import DomainError, Reason
from services.runtime.identity import current_identity

PATIENCE_S = 10.0
AWAY = DomainError(Reason.DEPENDENCY_UNAVAILABLE, "It is away.", metadata={"service": "database"})


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, sooner."""
    monkeypatch.setattr(late_verdicts, "BLOCK_MS", 5)
    monkeypatch.setattr(late_verdicts, "CLAIM_EVERY_S", 0.01)
    monkeypatch.setattr(late_verdicts, "CLAIM_AFTER_MS", 30)
    monkeypatch.setattr(late_verdicts, "RETRY_S", 0.01)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


class Parts:
    """What a server carries verdicts out with."""

    def __init__(self) -> None:
        self.applied: list[tuple[str, str]] = []
        """Generations and places, as they came."""
        self.effect = Effect.REVISED
        self.fails: list[Exception] = []
        self.dropped: list[str] = []
        self.stopped: list[tuple[str, str]] = []
        self.counted: list[str] = []
        self.told: list[bytes] = []
        self.gate: asyncio.Event | None = None

    async def apply(self, entry: str, verdict: LateVerdict) -> Effect:
        self.applied.append((verdict.generation_id, entry))
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise self.fails.pop(0)
        return self.effect

    async def drop(self, generation_id: str) -> None:
        self.dropped.append(generation_id)

    async def stop(self, *, user_id: str, generation_id: str) -> None:
        identity = current_identity()
        assert identity is not None
        assert identity.user_id == user_id
        self.stopped.append((user_id, generation_id))

    async def tell(self, data: bytes) -> None:
        self.told.append(data)

    def verdict(self, effect: str) -> None:
        self.counted.append(effect)


@asynccontextmanager
async def reading(redis: Redis, parts: Parts, name: str = "one") -> AsyncIterator[asyncio.Task[None]]:
    part = cast(Any, parts)
    reader = LateVerdicts(redis=redis, store=part, logs=part, stop=part, unstored=part, metrics=part, name=name)
    task = asyncio.create_task(reader.run())
    try:
        yield task
        assert not task.done(), task.exception()
    finally:
        while not task.done():
            # See `Background`: it may miss it.
            task.cancel()
            await asyncio.wait([task], timeout=0.1)


async def say(redis: Redis, generation_id: str, **fields: Any) -> None:
    verdict = late_verdict_pb2.LateVerdict(
        **{"generation_id": generation_id, "user_id": "u", "action": late_verdict_pb2.LATE_ACTION_RETRACT, **fields}
    )
    await redis.xadd(STREAM, {"v": verdict.SerializeToString()})


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - what it asks is in Redis
            await asyncio.sleep(0.005)


async def all_done(redis: Redis) -> None:
    """Everything is acknowledged, and nothing of it is left that somebody could read."""

    async def done() -> bool:
        return await redis.xlen(STREAM) == 0 and (await redis.xpending(STREAM, GROUP))["pending"] == 0

    await until(done)


async def test_what_came_before_the_first_server(redis: Redis) -> None:
    parts = Parts()
    await say(redis, "g1")
    async with reading(redis, parts):
        await say(redis, "g2")
        await all_done(redis)
    assert sorted(id_ for id_, _ in parts.applied) == ["g1", "g2"]
    assert sorted(parts.dropped) == ["g1", "g2"]
    assert parts.counted == ["revised", "revised"]


async def test_places_are_in_the_order_in_which_it_was_said(redis: Redis) -> None:
    parts = Parts()
    for number in range(12):
        await redis.xadd(
            STREAM,
            {
                "v": late_verdict_pb2.LateVerdict(
                    generation_id="g", user_id="u", action=late_verdict_pb2.LATE_ACTION_RETRACT
                ).SerializeToString()
            },
            id=f"{9 + number // 6 * 991}-{number + 1}",
        )
    async with reading(redis, parts):
        await all_done(redis)
    places = [place for _, place in parts.applied]
    assert len(set(places)) == 12
    assert places == sorted(places)


async def test_one_server_gets_each(redis: Redis) -> None:
    one, two = Parts(), Parts()
    async with reading(redis, one, "one"), reading(redis, two, "two"):
        for number in range(40):
            await say(redis, f"g{number}")
        await all_done(redis)
    assert len(one.applied) + len(two.applied) == 40
    assert len({id_ for id_, _ in one.applied + two.applied}) == 40


async def test_an_answer_that_runs_is_ended_in_the_name_of_its_user(redis: Redis) -> None:
    parts = Parts()
    parts.effect = Effect.WANTED
    async with reading(redis, parts):
        await say(redis, "g1", user_id="alice")
        await all_done(redis)
    assert parts.stopped == [("alice", "g1")]
    assert parts.dropped == []


async def test_a_server_that_dies_with_one_in_its_hands(redis: Redis) -> None:
    dead, heir = Parts(), Parts()
    dead.gate = asyncio.Event()
    await say(redis, "g1")
    async with reading(redis, dead, "dead"):

        async def taken() -> bool:
            return bool(dead.applied)

        await until(taken)
    # The fault bites: it was taken, and is not done.
    assert (await redis.xpending(STREAM, GROUP))["pending"] == 1
    async with reading(redis, heir, "heir"):
        await all_done(redis)
    assert heir.dropped == ["g1"]


@pytest.mark.parametrize("fault", [AWAY, LogUnavailableError()])
async def test_a_store_that_is_away_is_waited_for(redis: Redis, fault: Exception) -> None:
    parts = Parts()
    parts.fails = [fault] * 12
    await say(redis, "g1")
    async with reading(redis, parts):
        await all_done(redis)
    assert len(parts.applied) == 13
    assert parts.counted == ["revised"]


async def test_what_has_no_effect_is_done(redis: Redis) -> None:
    for effect in (Effect.UNKNOWN, Effect.OUTDATED, Effect.NOTHING):
        parts = Parts()
        parts.effect = effect
        async with reading(redis, parts):
            await say(redis, "g1")
            await all_done(redis)
        assert parts.counted == [effect.value]
        # Of an answer that is not stored, somebody may know.
        assert bool(parts.told) is (effect is Effect.UNKNOWN)


async def test_what_is_no_id(redis: Redis) -> None:
    parts = Parts()
    parts.fails = [DomainError(Reason.GENERATION_NOT_FOUND, "no")]
    await say(redis, "no id")
    async with reading(redis, parts):
        await all_done(redis)
    assert parts.counted == ["unknown"]


async def test_what_is_too_early_comes_again(redis: Redis) -> None:
    parts = Parts()
    parts.effect = Effect.NOT_YET
    await say(redis, "g1")
    async with reading(redis, parts):

        async def often() -> bool:
            # More often than what is given up.
            return len(parts.applied) > late_verdicts.MAX_TRIES + 2

        await until(often)
        parts.effect = Effect.REVISED
        await all_done(redis)
    assert parts.dropped == ["g1"]


async def test_one_that_cannot_be_read_holds_up_nobody_and_is_given_up(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts()
    bad = await redis.xadd(STREAM, {"v": b"\xffunspeakable"})
    await redis.xadd(STREAM, {"other": b"unspeakable"})
    await say(redis, "g1")
    with caplog.at_level(logging.INFO):
        async with reading(redis, parts):
            await all_done(redis)
    assert [id_ for id_, _ in parts.applied] == ["g1"]
    given_up = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [(record.message, record.__dict__["tries"]) for record in given_up] == [
        ("a late verdict cannot be read", late_verdicts.MAX_TRIES)
    ] * 2
    assert (bad.decode() if isinstance(bad, bytes) else bad) in {record.__dict__["entry"] for record in given_up}
    assert "unspeakable" not in caplog.text


async def test_one_that_cannot_be_carried_out_is_given_up(redis: Redis) -> None:
    parts = Parts()
    parts.fails = [RuntimeError("no")] * late_verdicts.MAX_TRIES
    await say(redis, "g1")
    async with reading(redis, parts):
        await all_done(redis)
    assert len(parts.applied) == late_verdicts.MAX_TRIES
    assert parts.counted == ["given_up"]


async def test_a_redis_that_has_forgotten_everything(redis: Redis) -> None:
    parts = Parts()
    async with reading(redis, parts):
        await say(redis, "g1")
        await all_done(redis)
        await redis.flushdb()
        await say(redis, "g2")

        async def heard() -> bool:
            return "g2" in parts.dropped

        await until(heard)
        await all_done(redis)


async def test_servers_that_are_long_gone_are_forgotten(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts()
    await say(redis, "g1")
    async with reading(redis, parts, "gone"):
        await all_done(redis)
    monkeypatch.setattr(late_verdicts, "CONSUMER_DAYS_MS", 1)

    async def forgotten() -> bool:
        return b"gone" not in [consumer["name"] for consumer in await redis.xinfo_consumers(STREAM, GROUP)]

    assert not await forgotten()
    async with reading(redis, parts, "here"):
        await until(forgotten)
