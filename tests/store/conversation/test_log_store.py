"""The log of one generation on a real Redis, whatever happens in whatever order to who writes it and who reads it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from services.conversation import log_tail, log_writer, watch
from services.conversation.chat_model import GeneratedPiece, Role
from services.conversation.generation_log import (
    Completed,
    Delta,
    Entry,
    Failed,
    GenerationLog,
    Notice,
    NoticeKind,
    Retracted,
    Started,
    Written,
)
from services.conversation.generation_store import StoredAnswer
from services.conversation.log_store import NO_ENTRY, Append, LogId, LogStore, LogUnavailableError, log_key
from services.conversation.log_tail import LogTail
from services.conversation.log_writer import LogWriter
from services.conversation.model import ErrorSummary, Message, MessageStatus
from services.conversation.released_text import ReleasedText, shown_text
from services.conversation.turn import LOST_POSITIONS
from services.conversation.watch import Watch
from services.runtime.errors import DomainError, Reason

PATIENCE_S = 5.0


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, sooner."""
    monkeypatch.setattr(log_writer, "PROBE_S", 0.005)
    monkeypatch.setattr(log_tail, "BLOCK_MS", 2)
    monkeypatch.setattr(log_tail, "GATHER_S", 0.0)
    monkeypatch.setattr(log_tail, "RETRY_S", 0.005)
    monkeypatch.setattr(watch, "SILENCE_S", 0.05)


class Books:
    """What the database knows of the generation."""

    def __init__(self) -> None:
        self.epoch = 1
        self.owner: Process | None = None
        self.gap = False
        self.answer: StoredAnswer | None = None

    async def ended(self, generation_id: str) -> StoredAnswer | None:
        return self.answer


class FragileStore(LogStore):
    """Redis as one process reaches it."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.away = False
        self.loses_reply = False

    def _reach(self) -> None:
        if self.away:
            raise LogUnavailableError

    async def append(self, batch: Sequence[Append]) -> Sequence[LogId | None]:
        self._reach()
        done = await super().append(batch)
        if self.loses_reply:
            self.loses_reply = False
            raise LogUnavailableError
        return done

    async def read(self, generation_id: str) -> Sequence[Entry]:
        self._reach()
        return await super().read(generation_id)

    async def last(self, generation_id: str) -> LogId | None:
        self._reach()
        return await super().last(generation_id)

    async def follow(self, after: Mapping[str, str], *, block_ms: int) -> Mapping[str, tuple[str, Sequence[Entry]]]:
        self._reach()
        return await super().follow(after, block_ms=block_ms)

    async def check(self) -> None:
        self._reach()
        await super().check()


class Process:
    """A server: it writes the logs that it owns, and reads all."""

    def __init__(self, redis: Redis, books: Books, generation_id: str) -> None:
        self.store = FragileStore(redis)
        self.books = books
        self.generation_id = generation_id
        self.log: GenerationLog | None = None
        self.writer = LogWriter(store=self.store, on_gap=self._gap, confirm=self._confirm)
        tail = LogTail(store=self.store)
        self.watch = Watch(writer=self.writer, store=self.store, tail=tail, generations=books)  # type: ignore[arg-type]
        self.tasks = [
            asyncio.create_task(work) for work in (self.writer.run(), self.writer.probe(), tail.run(), self._beat())
        ]

    async def _gap(self, generation_ids: Sequence[str], gap: bool) -> bool:
        if generation_ids and self.books.owner is self:
            self.books.gap = gap
        return True

    async def _confirm(self) -> bool:
        if self.books.owner is not self and self.log is not None:
            self.writer.give_up(self.log)
        return True

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            await self._confirm()

    def open(self, entries: Sequence[Entry] = ()) -> GenerationLog:
        self.log = self.writer.open(self.generation_id, on_move=lambda: None, epoch=self.books.epoch, entries=entries)
        return self.log

    def die(self) -> None:
        for task in self.tasks:
            task.cancel()


class Client:
    """Reads at one process or another, and keeps what it has seen."""

    def __init__(self) -> None:
        self.seen: list[Entry] = []
        self.at: Process | None = None
        self.task: asyncio.Task[None] | None = None

    async def move(self, process: Process) -> None:
        await self.leave()
        self.at = process
        self.task = asyncio.create_task(self._read(process))

    async def leave(self) -> None:
        while self.task is not None and not self.task.done():
            # More than once: the client of Redis may lose a cancel that comes while it connects.
            self.task.cancel()
            await asyncio.wait([self.task], timeout=0.05)
        self.task = self.at = None

    @property
    def ended(self) -> bool:
        return bool(self.seen) and isinstance(self.seen[-1].event, Completed | Failed)

    async def _read(self, process: Process) -> None:
        after = self.seen[-1].seq if self.seen else 0
        try:
            async for entries in process.watch.events(process.generation_id, after_seq=after):
                self.seen.extend(entries)
        except DomainError as error:
            if error.reason is not Reason.LOG_UNAVAILABLE:
                raise


class World:
    """Servers, clients, one Redis and one database."""

    def __init__(self, redis: Redis, *, processes: int = 3, clients: int = 3) -> None:
        self.generation_id = str(uuid.uuid4())
        self.redis = redis
        self.books = Books()
        self.processes = [Process(redis, self.books, self.generation_id) for _ in range(processes)]
        self.clients = [Client() for _ in range(clients)]
        self.words = 0
        self.lost = False

    async def __aenter__(self) -> Self:
        owner = self.books.owner = self.processes[0]
        owner.open().append(Started("c", "q", "a"))
        for number, client in enumerate(self.clients):
            await client.move(self.processes[number % len(self.processes)])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for client in self.clients:
            await client.leave()
        for process in self.processes:
            while not all(task.done() for task in process.tasks):
                process.die()
                await asyncio.wait(process.tasks, timeout=0.05)

    @property
    def log(self) -> GenerationLog:
        assert self.books.owner is not None
        assert self.books.owner.log is not None
        return self.books.owner.log

    def append(self, process: Process) -> None:
        """Text by a process that owns the generation or thinks that it does."""
        if process.log is None or process.log.closed:
            return
        self.words += 1
        word = f"w{self.words} "
        process.log.append(Delta(word, Written((GeneratedPiece(word, (self.words,)),), 1)))

    async def take_over(self, process: Process) -> None:
        """Another process takes what it may think to be dead, and is not."""
        if process is self.books.owner or process.store.away or self.lost:
            return
        self.books.epoch += 1
        self.books.owner = process
        entries = await process.store.fence(self.generation_id, self.books.epoch)
        assert entries is not None
        before = ReleasedText()
        for entry in entries:
            if isinstance(entry.event, Delta | Retracted):
                before.restore(entry.event)
        assert before.written == before.shown == shown_text(entries)
        log = process.open(entries)
        if not entries and not self.books.gap:
            log.append(Started("c", "q", "a"))
        if self.books.gap:
            # What it cannot continue it ends.
            self.lost = True
            log.skip(LOST_POSITIONS)
            log.append(Failed(ErrorSummary("INTERNAL", "ANSWER_LOST", "lost"), None))
            self.books.answer = StoredAnswer(_message("lost"), log.end_seq)

    async def lose_stream(self) -> None:
        """Redis forgets, and the owner says something more. Only who still runs can know what there was."""
        await self._settled()
        owner = self.books.owner
        assert owner is not None
        if owner.store.away or self.lost:
            return
        await self.redis.delete(log_key(self.generation_id))
        self.append(owner)
        await self._settled()

    async def finish(self) -> None:
        for process in self.processes:
            process.store.away = process.store.loses_reply = False
        if not self.lost:
            await self._settled()
            self.log.append(Completed(None))
            self.books.answer = StoredAnswer(_message(shown_text(self.log.entries)), self.log.end_seq)
        await self._settled()
        for number, client in enumerate(self.clients):
            if client.task is None or client.task.done():
                await client.move(self.processes[number % len(self.processes)])
        await until(lambda: all(c.task is not None and c.task.done() for c in self.clients), "all have come to the end")

    async def _settled(self) -> None:
        """Until what the owner has said is stored, unless Redis is away for it."""
        owner, log = self.books.owner, self.log
        assert owner is not None
        await until(
            lambda: owner.store.away or (log.stored == len(log.entries) and log.entries and not log._pending),
            "what the owner says is stored",
        )

    def check(self) -> None:
        """Every client has seen every event of the log once, in order, and nothing else."""
        stored = self.log.entries
        assert [entry.seq for entry in stored] == sorted({entry.seq for entry in stored})
        for client in self.clients:
            seqs = [entry.seq for entry in client.seen]
            assert seqs == sorted(set(seqs))
            assert client.ended
            assert sum(isinstance(entry.event, Completed | Failed) for entry in client.seen) == 1
            if self.lost:
                continue
            # Made again from what the database has, by a process that could not read the log.
            replayed = client.seen[-1].event != Completed(None)
            if not replayed:
                assert [e.event for e in client.seen if not isinstance(e.event, Delta)] == [
                    entry.event for entry in stored if not isinstance(entry.event, Delta)
                ]
            for count, entry in enumerate(client.seen[:-1], 1):
                # At every position it holds the text that the log has there.
                there = [known for known in stored if known.seq <= entry.seq]
                assert shown_text(client.seen[:count]) == shown_text(there)
            if not replayed:
                assert shown_text(client.seen) == shown_text(stored)


def _message(text: str) -> Message:
    return Message("a", "c", "q", Role.ASSISTANT, text, MessageStatus.COMPLETED, 2, datetime.now(UTC))


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"not in {PATIENCE_S:g} s: {what}") from None


processes = st.integers(0, 2)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), processes),
        st.tuples(st.just("append"), st.just(-1)),
        st.tuples(st.just("wait"), st.integers(0, 6)),
        st.tuples(st.just("settle"), st.just(0)),
        st.tuples(st.just("take over"), processes),
        st.tuples(st.just("move"), st.integers(0, 8)),
        st.tuples(st.just("away"), processes),
        st.tuples(st.just("back"), processes),
        st.tuples(st.just("lose reply"), processes),
        st.tuples(st.just("lose stream"), st.just(0)),
    ),
    max_size=25,
)


async def play(world: World, step: str, argument: int) -> None:
    match step:
        case "append":
            owner = world.books.owner
            assert owner is not None
            world.append(owner if argument < 0 else world.processes[argument])
        case "wait":
            for _ in range(argument):
                await asyncio.sleep(0.001 if argument == 6 else 0)
        case "settle":
            await world._settled()
        case "take over":
            await world.take_over(world.processes[argument])
        case "move":
            await world.clients[argument % 3].move(world.processes[argument // 3])
        case "away":
            world.processes[argument].store.away = True
        case "back":
            world.processes[argument].store.away = False
        case "lose reply":
            world.processes[argument].store.loses_reply = True
        case "lose stream":
            await world.lose_stream()


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=steps)
def test_every_client_sees_every_event_once(redis_server: str, story: list[tuple[str, int]]) -> None:
    async def scenario() -> None:
        async with Redis.from_url(redis_server) as redis, World(redis) as world:
            for step, argument in story:
                await play(world, step, argument)
            await world.finish()
            world.check()

    asyncio.run(scenario())


async def test_a_watcher_that_comes_back_at_once_misses_nothing(redis_server: str) -> None:
    """The read that was under way for the one who left says nothing of what the new one lacks."""
    async with Redis.from_url(redis_server) as redis:
        store = HeldStore(redis)
        generation_id = str(uuid.uuid4())
        tail = LogTail(store=store)
        running = asyncio.create_task(tail.run())

        async def append(seq: int) -> None:
            await store.append(
                [Append(generation_id, 1, [Entry(seq, Delta(f"w{seq} "))], LogId(1, seq - 1) if seq > 1 else NO_ENTRY)]
            )

        await append(1)
        async with tail.follow(generation_id) as log:
            assert [entry.seq for entry in await log.read(0)] == [1]
            store.held.clear()
            await until(lambda: store.waiting, "the next read is under way")
            await append(2)
        async with tail.follow(generation_id) as log:
            store.held.set()
            assert [entry.seq for entry in await log.read(1)] == [2]
            assert shown_text(await log.read(0)) == "w1 w2 "
        running.cancel()


async def test_a_log_that_cannot_be_read_ends_no_other(redis_server: str) -> None:
    async with Redis.from_url(redis_server) as redis:
        store = LogStore(redis)
        good, bad = str(uuid.uuid4()), str(uuid.uuid4())
        tail = LogTail(store=store)
        running = asyncio.create_task(tail.run())
        await redis.xadd(log_key(bad), {"e": b"\xff"}, id="1-1")
        async with tail.follow(bad) as unread, tail.follow(good) as log:
            await store.append([Append(good, 1, [Entry(1, Delta("w1"))], NO_ENTRY)])
            assert await log.read(0) == [Entry(1, Delta("w1"))]
            await store.append([Append(good, 1, [Entry(2, Completed(None))], LogId(1, 1))])
            assert await log.read(1) == [Entry(2, Completed(None))]
            assert not unread.entries
        running.cancel()


class HeldStore(LogStore):
    """Keeps what was read for a while."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.held = asyncio.Event()
        self.held.set()
        self.waiting = False

    async def follow(self, after: Mapping[str, str], *, block_ms: int) -> Mapping[str, tuple[str, Sequence[Entry]]]:
        self.waiting = not self.held.is_set()
        if not self.waiting:
            return await super().follow(after, block_ms=block_ms)
        # Asked from where the one who was here had come to.
        await self.held.wait()
        return await super().follow(after, block_ms=block_ms)


async def test_a_generation_that_was_taken_over_when_redis_went_is_stored_once(redis_server: str) -> None:
    async with Redis.from_url(redis_server) as redis, World(redis, processes=2, clients=1) as world:
        first, second = world.processes
        world.append(first)
        await world._settled()
        await world.take_over(second)
        # After its fence, and before it has said anything.
        second.store.away = True
        world.append(second)
        await until(lambda: len(second.log.entries) > 2 if second.log else False, "it goes on without Redis")
        second.store.away = False
        await world.finish()
        world.check()
        stored = await second.store.read(world.generation_id)
        assert [entry.seq for entry in stored] == sorted({entry.seq for entry in stored})
        assert any(isinstance(entry.event, Notice) for entry in stored)


async def test_logs_that_wait_for_redis_are_kept(redis_server: str) -> None:
    """Those of many generations that ended when it was away are all stored when it is back."""
    count = log_writer.MAX_BEHIND * 3 // 5
    async with Redis.from_url(redis_server) as redis, World(redis, processes=1, clients=0) as world:
        [process] = world.processes
        await world._settled()
        process.store.away = True
        ids = [str(uuid.uuid4()) for _ in range(count)]
        for id_ in ids:
            log = process.writer.open(id_, on_move=lambda: None)
            log.append(Started("c", "q", "a"))
            log.append(Completed(None))
        await until(lambda: not process.writer.available, "it is noticed")
        await until(lambda: all(process.writer.find(id_) for id_ in ids), "none is forgotten")
        process.store.away = False
        await until(lambda: not any(process.writer.find(id_) for id_ in ids), "all are stored")
        for id_ in ids:
            assert len(await process.store.read(id_)) == 2


async def test_who_fences_shuts_out_all_before(redis_server: str) -> None:
    async with Redis.from_url(redis_server) as redis:
        store, id_ = LogStore(redis), str(uuid.uuid4())
        first = Append(id_, 1, [Entry(1, Delta("a"))], NO_ENTRY)
        assert await store.append([first]) == [None]
        # Sent again, when the reply of the first was lost.
        assert await store.append([first]) == [None]
        assert await store.fence(id_, 3) == [Entry(1, Delta("a"))]
        for epoch in (1, 2):
            late = Append(id_, epoch, [Entry(2, Delta("b"), epoch)], LogId(1, 1))
            assert await store.append([late]) == [LogId(3, 0)]
            assert await store.fence(id_, epoch) is None
        # Its own fence again, when the reply of the first was lost.
        assert await store.fence(id_, 3) == [Entry(1, Delta("a"))]
        assert await store.append([Append(id_, 3, [Entry(2, Delta("c"), 3)], LogId(3, 0))]) == [None]
        assert await redis.ttl(log_key(id_)) > 0
        await redis.delete(log_key(id_))
        assert await store.append([Append(id_, 3, [Entry(3, Delta("d"), 3)], LogId(3, 2))]) == [NO_ENTRY]


async def test_entries_that_redis_lost_are_stored_again(redis_server: str) -> None:
    """As when it fails over to a copy that lags behind."""
    async with Redis.from_url(redis_server) as redis, World(redis, processes=1, clients=0) as world:
        [process] = world.processes
        log = process.writer.open(str(uuid.uuid4()), on_move=lambda: None)
        key = log_key(log.generation_id)
        for seq in range(4):
            log.append(Notice(NoticeKind.ENGINE_REPLACED))
            await log.read(seq)
        await redis.xdel(key, "1-3", "1-4")
        assert len(await process.store.read(log.generation_id)) == 2
        log.append(Completed(None))
        await until(lambda: process.writer.find(log.generation_id) is None, "all of it is stored")
        assert [entry.seq for entry in await process.store.read(log.generation_id)] == [1, 2, 3, 4, 5]
