"""What the guard looks at in the background, on a real Redis: what is taken, what becomes of it, what is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from chatmesh.moderation.v1 import guard_job_pb2
from services.moderation.events import Events
from services.moderation.guard import offers
from services.moderation.guard.convert import job_from_bytes
from services.moderation.guard.metrics import GuardMetrics
from services.moderation.guard.model import SAFE, Mode, Opinion, Silence
from services.moderation.guard.offers import FIELD, MAX_AGE, STREAM, GuardOffers
from services.moderation.guard.worker import GROUP, GuardWorker
from services.moderation.late.verdict import LateVerdict
from services.moderation.metrics import ModerationMetrics
from services.moderation.model import Action, Direction, Event, Layer, LayerResult, Subject, Verdict
from services.moderation.policy import GuardPolicy, Policy
from services.runtime.clock import SystemClock
from services.runtime.errors import DomainError, Reason
from services.runtime.stream_group import Pace
from tests.store.moderation.events import count, eventually
from tests.unit.moderation.policies import SamePoints

HURRIED = Pace(count=4, block_ms=5, claim_every_s=0.01, claim_after_ms=30, retry_s=0.01, max_tries=3, hold_s=30)
ANN = Subject("g", "c", "ann", "acme", "plus", "eu")
PASSED = Verdict(Action.ALLOW, ())
UNSAFE = Opinion(unsafe=True, codes=("S1",))
POLICY = """
version: {version}
review: {{record: {record}}}
{guard}
categories:
  violence:
    input: {{action: {action}}}
    output: {{action: {action}, replacement: "[gone]"}}
"""


def policy(
    folder: Path, *, version: str = "p1", action: str = "block", share: float = 1.0, record: str = "warn"
) -> Policy:
    guard = f"guard: {{model: m, background: {share}}}" if share >= 0 else ""
    path = folder / "policy.yaml"
    path.write_text(POLICY.format(version=version, action=action, guard=guard, record=record))
    return Policy.load(path, points=SamePoints())


class Parts:
    """What a worker works with."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.says: list[Opinion | Silence] = []
        """What the guard says, one after the other, and then for ever the last."""
        self.asked: list[tuple[str, str, str]] = []
        self.events: list[Event] = []
        self.published: list[LateVerdict] = []
        self.away = 0
        """So many of the next verdicts cannot be published."""
        self.reader = InMemoryMetricReader()
        self.meter = MeterProvider([self.reader]).get_meter("test")

    async def ask(
        self, policy: GuardPolicy, *, mode: Mode, direction: Direction, text: str, question: str, residency: str
    ) -> Opinion | Silence:
        assert mode is Mode.BACKGROUND
        self.asked.append((direction.value, text, residency))
        if text == "poison":
            raise LookupError
        return self.says.pop(0) if len(self.says) > 1 else self.says[0]

    def record(self, event: Event) -> None:
        self.events.append(event)

    async def publish(self, verdict: LateVerdict) -> None:
        if self.away:
            self.away -= 1
            raise DomainError(Reason.DEPENDENCY_UNAVAILABLE, "Redis is not available.")
        self.published.append(verdict)

    def dropped(self, reason: str) -> float:
        return count(self.reader, "chatmesh.moderation.guard.dropped", reason=reason)

    async def until_dropped(self, reason: str, texts: int = 1) -> None:
        """Wait until so many were dropped for a reason, which is counted when they are gone."""

        async def counted() -> bool:
            return self.dropped(reason) == texts

        await eventually(counted, f"{texts} are dropped: {reason}")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(policy(tmp_path))


@asynccontextmanager
async def working(redis: Redis, parts: Parts) -> AsyncIterator[None]:
    part = cast(Any, parts)
    worker = GuardWorker(
        redis=redis,
        policy=lambda: parts.policy,
        guard=part,
        events=Events(recorder=part, clock=SystemClock()),
        publisher=part,
        clock=SystemClock(),
        findings=ModerationMetrics(meter=parts.meter),
        metrics=GuardMetrics(meter=parts.meter),
        pace=HURRIED,
    )
    task = asyncio.create_task(worker.run())
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.wait([task])


def taking(redis: Redis, parts: Parts, chance: Callable[[], float] = lambda: 0.5) -> GuardOffers:
    return GuardOffers(redis=redis, clock=SystemClock(), metrics=GuardMetrics(meter=parts.meter), chance=chance)


@asynccontextmanager
async def writing(taken: GuardOffers) -> AsyncIterator[None]:
    task = asyncio.create_task(taken.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def offer(redis: Redis, parts: Parts, *texts: str, subject: Subject = ANN) -> None:
    """Put answers into the stream."""
    taken = taking(redis, parts)
    before = await redis.xlen(STREAM)
    for text in texts:
        taken.output(parts.policy, subject=subject, text=lambda text=text: text)  # type: ignore[misc]
    async with writing(taken):
        await eventually(lambda: length(redis, before + len(texts)), "the jobs are written")


async def length(redis: Redis, entries: int) -> bool:
    return await redis.xlen(STREAM) == entries


async def all_gone(redis: Redis) -> None:
    async def gone() -> bool:
        if not await redis.exists(STREAM) or not await redis.xinfo_groups(STREAM):
            return False
        pending: Any = await redis.xpending(STREAM, GROUP)
        return await redis.xlen(STREAM) == 0 and pending["pending"] == 0

    await eventually(gone, "the jobs are gone")


async def jobs(redis: Redis) -> list[tuple[str, str, str]]:
    entries: Any = await redis.xrange(STREAM)
    found = [job_from_bytes(fields[FIELD.encode()]) for _, fields in entries]
    return [(job.direction.value, job.text, job.question) for job in found]


async def test_what_is_safe_is_deleted_and_no_more(redis: Redis, parts: Parts) -> None:
    parts.says = [SAFE]
    await offer(redis, parts, *(f"text {number}" for number in range(10)))
    async with working(redis, parts):
        await all_gone(redis)
    assert sorted(parts.asked) == sorted(("output", f"text {number}", "eu") for number in range(10))
    assert (parts.events, parts.published) == ([], [])


async def test_the_policy_in_force_decides_and_not_the_one_that_let_it_pass(
    redis: Redis, parts: Parts, tmp_path: Path
) -> None:
    parts.says = [UNSAFE]
    await offer(redis, parts, "text")
    parts.policy = policy(tmp_path, version="p2", action="hold")
    async with working(redis, parts):
        await all_gone(redis)
    (event,) = parts.events
    assert (event.late, event.action, event.policy_version, event.subject) == (True, Action.HOLD, "p2", ANN)
    (verdict,) = parts.published
    assert (verdict.policy_version, verdict.event_id, verdict.replacement) == ("p2", event.event_id, "[gone]")


@pytest.mark.parametrize("action", ["allow", "warn"])
async def test_what_does_not_refuse_takes_nothing_back(redis: Redis, parts: Parts, tmp_path: Path, action: str) -> None:
    parts.says = [UNSAFE]
    parts.policy = policy(tmp_path, action=action)
    await offer(redis, parts, "text")
    async with working(redis, parts):
        await all_gone(redis)
    assert [event.action.name.lower() for event in parts.events] == ([] if action == "allow" else ["warn"])
    assert parts.published == []


async def test_codes_that_the_policy_does_not_know_do_nothing(redis: Redis, parts: Parts) -> None:
    parts.says = [Opinion(unsafe=True, codes=("S6", "S10", "S13"))]
    await offer(redis, parts, "text")
    async with working(redis, parts):
        await all_gone(redis)
    assert (parts.events, parts.published) == ([], [])


async def test_a_policy_that_has_no_guard_any_more(redis: Redis, parts: Parts, tmp_path: Path) -> None:
    await offer(redis, parts, "text")
    parts.policy = policy(tmp_path, share=-1)
    async with working(redis, parts):
        await all_gone(redis)
        await parts.until_dropped("no_guard")
    assert parts.asked == []


async def test_a_verdict_is_published_however_often_that_fails(
    redis: Redis, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.moderation.guard.worker.FIRST_RETRY_S", 0.01)
    parts.says = [UNSAFE]
    parts.away = 6
    await offer(redis, parts, "text")
    async with working(redis, parts):
        await all_gone(redis)
    # It was asked and written down once.
    assert (len(parts.asked), len(parts.events), len(parts.published)) == (1, 1, 1)


async def test_what_nobody_writes_down_is_taken_back_all_the_same(redis: Redis, parts: Parts, tmp_path: Path) -> None:
    parts.says = [UNSAFE]
    parts.policy = policy(tmp_path, action="hold", record="block")
    await offer(redis, parts, "text")
    async with working(redis, parts):
        await all_gone(redis)
    assert parts.events == []
    assert parts.published[0].event_id


async def test_a_text_of_nobody_cannot_be_taken_back(redis: Redis, parts: Parts) -> None:
    parts.says = [UNSAFE]
    await offer(redis, parts, "text", subject=Subject("g"))
    async with working(redis, parts):
        await all_gone(redis)
    assert (len(parts.events), parts.published) == (1, [])


@pytest.mark.parametrize("silence", [Silence.LATE, Silence.FAILED])
async def test_what_fails_is_tried_again_and_then_dropped(redis: Redis, parts: Parts, silence: Silence) -> None:
    parts.says = [silence]
    await offer(redis, parts, "text")
    async with working(redis, parts):
        await all_gone(redis)
        await parts.until_dropped("tried")
    assert (len(parts.asked), parts.published) == (3, [])


async def test_what_cannot_be_judged_does_not_stop_the_others(redis: Redis, parts: Parts) -> None:
    parts.says = [UNSAFE]
    await offer(redis, parts, "poison", "text", "more")
    async with working(redis, parts):
        await all_gone(redis)
        await parts.until_dropped("tried")
    assert len(parts.published) == 2
    assert [text for _, text, _ in parts.asked].count("poison") == 3


async def test_what_fails_once_is_judged_in_the_end(redis: Redis, parts: Parts) -> None:
    parts.says = [Silence.LATE, UNSAFE]
    await offer(redis, parts, "text")
    async with working(redis, parts):
        await all_gone(redis)
    assert (len(parts.asked), parts.dropped("tried"), len(parts.published)) == (2, 0, 1)


async def test_an_unreadable_reply_is_not_asked_for_again(redis: Redis, parts: Parts) -> None:
    parts.says = [Silence.UNREADABLE]
    await offer(redis, parts, "text")
    async with working(redis, parts):
        await all_gone(redis)
        await parts.until_dropped("unreadable")
    assert (len(parts.asked), parts.published) == (1, [])


async def test_an_absent_guard_is_waited_for_and_not_for_ever(
    redis: Redis, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.moderation.guard.worker.FIRST_RETRY_S", 0.01)
    parts.says = [*[Silence.AWAY] * 6, UNSAFE]
    await offer(redis, parts, "text")
    async with working(redis, parts):
        await all_gone(redis)
    assert (len(parts.asked), len(parts.published)) == (7, 1)
    parts.says = [Silence.AWAY]
    await offer(redis, parts, "text")
    monkeypatch.setattr("services.moderation.guard.worker.MAX_AGE", timedelta(milliseconds=200))
    async with working(redis, parts):
        await all_gone(redis)
        await parts.until_dropped("expired")
    assert len(parts.published) == 1


async def test_entries_that_are_no_jobs(redis: Redis, parts: Parts) -> None:
    parts.says = [SAFE]
    await redis.xadd(STREAM, {"v": b"\xff\xff"})
    await redis.xadd(STREAM, {"other": b""})
    await redis.xadd(STREAM, {"v": guard_job_pb2.GuardJob(generation_id="g").SerializeToString()})
    await offer(redis, parts, "text")
    async with working(redis, parts):
        await all_gone(redis)
        await parts.until_dropped("unreadable", 3)
    assert [text for _, text, _ in parts.asked] == ["text"]


async def test_what_is_offered(redis: Redis, parts: Parts) -> None:
    taken = taking(redis, parts)
    blocked = Verdict(Action.BLOCK, ())
    redacted = Verdict(Action.REDACT, (), redacted_text="my [key]")
    heard = Verdict(Action.ALLOW, (), layers=(LayerResult(Layer.GUARD, Action.ALLOW, 0.1),))
    missed = Verdict(Action.ALLOW, (), layers=(LayerResult(Layer.GUARD, Action.ALLOW, 0.1, unchecked=True),))
    for number, (verdict, text) in enumerate(
        [
            *((PASSED, "passed"), (blocked, "blocked"), (redacted, "my key"), (heard, "heard"), (missed, "missed")),
            *((PASSED, "  "), (PASSED, "x" * (offers.LONGEST + 1))),
        ]
    ):
        taken.input(parts.policy, verdict, subject=replace(ANN, generation_id=f"g{number}"), text=text)
    for number in (0, 2, 3, 9):
        taken.output(parts.policy, subject=replace(ANN, generation_id=f"g{number}"), text=lambda: "answer")
    async with writing(taken):
        await eventually(lambda: length(redis, 7), "all are written")
    assert await jobs(redis) == [
        *(("input", "passed", ""), ("input", "my [key]", ""), ("input", "missed", "")),
        *(("output", "answer", question) for question in ("passed", "my [key]", "heard", "")),
    ]
    assert parts.dropped("long") == 1


async def test_only_a_share_is_offered(redis: Redis, parts: Parts, tmp_path: Path) -> None:
    draws = iter([0.0, 0.29, 0.3, 0.31, 0.99, 0.1])
    taken = taking(redis, parts, chance=lambda: next(draws))
    third = policy(tmp_path, share=0.3)
    for number in range(6):
        taken.input(third, PASSED, subject=ANN, text=str(number))
    taken.input(policy(tmp_path, share=0.0), PASSED, subject=ANN, text="none")
    taken.input(policy(tmp_path, share=-1), PASSED, subject=ANN, text="none")
    async with writing(taken):
        await eventually(lambda: length(redis, 3), "they are written")
    assert [text for _, text, _ in await jobs(redis)] == ["0", "1", "5"]


async def test_texts_are_not_kept_for_longer_than_said(redis: Redis, parts: Parts) -> None:
    old = int((SystemClock().now() - MAX_AGE - timedelta(seconds=1)).timestamp() * 1000)
    await redis.xadd(STREAM, {"v": b"older"}, id=f"{old - 1}-0")
    await redis.xadd(STREAM, {"v": b"old"}, id=f"{old}-0")
    await redis.xadd(STREAM, {"v": b"younger"}, id=f"{old + 30_000}-0")
    taken = taking(redis, parts)
    taken.output(parts.policy, subject=ANN, text=lambda: "new")
    async with writing(taken):
        await eventually(lambda: length(redis, 2), "the old ones are gone")
    entries: Any = await redis.xrange(STREAM)
    assert entries[0][1] == {b"v": b"younger"}
    # And when nobody comes any more, the key goes by itself.
    assert 0 < await redis.ttl(STREAM) <= MAX_AGE.total_seconds()


async def test_when_redis_is_away_checks_do_not_wait_and_too_many_are_dropped(
    redis: Redis, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "CAPACITY", 3)
    monkeypatch.setattr(offers, "FIRST_RETRY_S", 0.01)
    taken = taking(redis, parts)
    write = taken._write
    failures = 4

    async def fail(batch: Any) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise RedisConnectionError
        await write(batch)

    monkeypatch.setattr(taken, "_write", fail)
    for number in range(5):
        taken.output(parts.policy, subject=ANN, text=lambda number=number: f"text {number}")  # type: ignore[misc]
    assert parts.dropped("full") == 2
    async with writing(taken):
        await eventually(lambda: length(redis, 3), "they are written")
    assert [text for _, text, _ in await jobs(redis)] == ["text 0", "text 1", "text 2"]
