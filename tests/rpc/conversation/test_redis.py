"""Redis goes away, or forgets: who is connected reads on; nothing that was shown is lost or comes twice.

A server may also die with what it was about to say to Redis.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from chatmesh.conversation.v1 import conversation_pb2, generation_event_pb2
from services.conversation.log_store import log_key
from services.conversation.watch import SILENCE_S
from services.runtime.errors import DomainError, Reason
from tests.rpc.conversation.conftest import StartStage
from tests.rpc.conversation.script import SCRIPT, TEXT, write, write_out
from tests.rpc.conversation.scripted import DEADLINE_S, eventually
from tests.rpc.conversation.streams import words
from tests.rpc.conversation.tcp_proxy import Proxy, running_proxy
from tests.rpc.conversation.user import Reader, User

pytestmark = pytest.mark.asyncio(loop_scope="session")

UNAVAILABLE = generation_event_pb2.NOTICE_KIND_RESUME_UNAVAILABLE
AVAILABLE = generation_event_pb2.NOTICE_KIND_RESUME_AVAILABLE
IMPATIENCE_S = SILENCE_S / 2
"""Of a client that asks again before a silent log is doubted."""


def text(count: int) -> str:
    return "".join(word for word, _ in SCRIPT[:count])


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(redis_server: str) -> AsyncIterator[Proxy]:
    async with running_proxy(Path(urlsplit(redis_server).path)) as proxy:
        yield proxy


@pytest.fixture
def direct(redis_server: str) -> dict[str, str]:
    """Settings of a process that reaches Redis all the time."""
    return {"redis_url": redis_server}


async def test_it_goes_and_comes_back(start_stage: StartStage, proxy: Proxy, direct: dict[str, str]) -> None:
    async with start_stage(redis_url=f"redis://127.0.0.1:{proxy.port}") as stage, stage.another(**direct) as second:
        user = await stage.user()
        reader, start = await stage.turn(user)
        elsewhere = User.of(user, second.channel)
        write(stage.engine, start, 5)
        await reader.shows(text(5))
        await proxy.down()
        write(stage.engine, start, 5, already=5)
        await reader.until(lambda reader: reader.notices == [UNAVAILABLE], "the client is told")
        await reader.shows(text(10))
        # A turn that begins now is told so too, and runs to its end.
        other_user = await stage.user()
        other, other_start = await stage.turn(other_user)
        await other.until(lambda reader: reader.notices == [UNAVAILABLE], "the client of the new one is told")
        # The fault bites: for who watches elsewhere the log ends where Redis went.
        late = elsewhere.watch(reader.generation_id)
        await late.shows(text(5))

        await proxy.up()
        await reader.until(lambda reader: reader.notices == [UNAVAILABLE, AVAILABLE], "the client is told")
        # What was missing is there now.
        await late.shows(text(10))
        write_out(stage.engine, start, already=10)
        stage.engine.finish(other_start.generation_id, "Hi.")
        answer = await reader.completed()
        assert answer.content == TEXT
        assert await late.completed() == answer
        assert late.notices == reader.notices == [UNAVAILABLE, AVAILABLE]
        assert (await other.completed()).content == "Hi."


async def test_it_is_away_to_the_end(start_stage: StartStage, proxy: Proxy, direct: dict[str, str]) -> None:
    async with start_stage(redis_url=f"redis://127.0.0.1:{proxy.port}") as stage, stage.another(**direct) as second:
        user = await stage.user()
        reader, start = await stage.turn(user)
        write(stage.engine, start, 5)
        await reader.shows(text(5))
        elsewhere = User.of(user, second.channel)
        watcher, idle = elsewhere.watch(reader.generation_id), elsewhere.watch(reader.generation_id)
        await watcher.shows(text(5))
        await idle.shows(text(5))
        await idle.leave()
        await proxy.down()
        write(stage.engine, start, 5, already=5)
        await reader.until(lambda reader: reader.notices, "the client is told")
        write_out(stage.engine, start, already=10)
        answer = await reader.completed()
        assert answer.content == TEXT
        assert reader.notices == [UNAVAILABLE]
        # Elsewhere the log has not ended, but the database has the answer: the rest comes with the terminal event.
        for told in (watcher, elsewhere.watch(reader.generation_id, before=idle)):
            assert (await told.end()).completed.message == answer
            assert told.text == text(5)
        await proxy.up()


async def test_the_owner_dies_while_it_is_away(start_stage: StartStage, proxy: Proxy, direct: dict[str, str]) -> None:
    """Nobody knows what the client was shown since: the answer is lost, and that is said, also to who saw most."""
    async with start_stage(redis_url=f"redis://127.0.0.1:{proxy.port}") as stage, stage.another(**direct) as second:
        user = await stage.user()
        turns = [await stage.turn(user), await stage.turn(other := await stage.user())]
        for reader, start in turns:
            write(stage.engine, start, 5)
            await reader.shows(text(5))
        await proxy.down()
        for reader, start in turns:
            write(stage.engine, start, 5, already=5)
            await reader.shows(text(10))
        # One that began when it was away: in Redis there is nothing of it at all.
        third = await stage.user()
        turns.append(await stage.turn(third))
        await turns[2][0].until(lambda reader: reader.notices, "it is told")
        await stage.node.kill()
        for of, (reader, _) in zip((user, other, third), turns, strict=True):
            await reader.until(lambda reader: reader.code, "its server is gone")
            of.move_to(second.channel)
            resumed = of.watch(reader.generation_id, before=reader)
            failed = await resumed.failed()
            assert failed.error.reason == Reason.ANSWER_LOST
            question, stored = await of.messages()
            assert (question.content, stored) == ("Hello", failed.message)
            assert stored.status == conversation_pb2.MESSAGE_STATUS_FAILED
            # There is no more after that.
            again = of.watch(reader.generation_id, before=resumed)
            await eventually(lambda again=again: again.code, "the end was seen")  # type: ignore[misc]
            assert again.seq == resumed.seq
            await stage.usage.settled(reader.generation_id)
        await proxy.up()


async def test_it_forgets_everything(start_stage: StartStage, redis_server: str) -> None:
    redis: Any = Redis.from_url(redis_server)
    async with redis, start_stage() as stage, stage.another() as second:
        user = await stage.user()
        reader, start = await stage.turn(user)
        elsewhere = User.of(user, second.channel)
        write(stage.engine, start, 5)
        watcher, left = elsewhere.watch(reader.generation_id), elsewhere.watch(reader.generation_id)
        await watcher.shows(text(5))
        await left.shows(text(5))
        await left.leave()
        await redis.flushall()
        assert not await redis.exists(log_key(reader.generation_id))
        write(stage.engine, start, 5, already=5)
        await reader.shows(text(10))
        await watcher.shows(text(10))
        late = elsewhere.watch(reader.generation_id)
        await late.shows(text(10))
        write_out(stage.engine, start, already=10)
        answer = await reader.completed()
        for other in (watcher, late, elsewhere.watch(reader.generation_id, before=left)):
            assert await other.completed() == answer
        # Long after, when the log is gone as all logs go.
        await redis.flushall()
        whole = elsewhere.watch(reader.generation_id)
        assert await whole.completed() == answer
        assert whole.kinds == ["started", "delta", "completed"]
        rest = elsewhere.watch(reader.generation_id, before=left)
        assert (await rest.end()).completed.message == answer
        assert rest.text == left.text
        nothing = elsewhere.watch(reader.generation_id, before=whole)
        await eventually(lambda: nothing.code, "the end was seen")
        assert nothing.seq == whole.seq


async def test_it_is_away_when_the_process_starts(start_stage: StartStage, proxy: Proxy) -> None:
    await proxy.down()
    async with start_stage(redis_url=f"redis://127.0.0.1:{proxy.port}") as stage:
        reader, start = await stage.turn(await stage.user())
        stage.engine.say(words(start.generation_id, "one "))
        await reader.shows("one ")
        stage.engine.finish(start.generation_id, "two")
        assert (await reader.completed()).content == "one two"
        await proxy.up()


def patient(proxy: Proxy) -> str:
    """The URL for a process that waits for Redis longer than the test lasts."""
    return f"redis://127.0.0.1:{proxy.port}?socket_timeout=600&socket_connect_timeout=600"


async def test_the_owner_dies_before_it_has_said_the_end(
    start_stage: StartStage, proxy: Proxy, direct: dict[str, str]
) -> None:
    """The answer is stored, and its log will never say so: who asks again need not wait for that."""
    async with start_stage(redis_url=patient(proxy)) as stage, stage.another(**direct) as second:
        user, request_id = await stage.user(), str(uuid.uuid4())
        reader, start = await stage.turn(user, request_id=request_id)
        write(stage.engine, start, 5)
        await reader.shows(text(5))
        proxy.swallow()
        write_out(stage.engine, start, already=5)
        user.move_to(second.channel)
        stored = await user.stored(lambda m: m.status == conversation_pb2.MESSAGE_STATUS_COMPLETED, "it is stored")
        await stage.node.kill()
        await reader.until(lambda reader: reader.code, "its server is gone")
        assert not reader.ended

        assert await insist(user, request_id) == stored
        # What the log lacks, the terminal event has.
        whole = await insist_on_end(lambda: user.stream(request_id=request_id, timeout=IMPATIENCE_S))
        assert (whole.text, whole.events[-1].completed.message) == (text(5), stored)
        rest = await insist_on_end(lambda: user.watch(reader.generation_id, before=reader, timeout=IMPATIENCE_S))
        assert (rest.text, rest.events[-1].completed.message) == (text(5), stored)


async def insist(user: User, request_id: str) -> conversation_pb2.Message:
    """Send one message until it has an answer, with little patience for each time."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await user.send(request_id=request_id, timeout=IMPATIENCE_S)
            except DomainError as error:
                assert error.reason is Reason.DEADLINE_EXCEEDED  # noqa: PT017 - the others are no answer


async def insist_on_end(ask: Callable[[], Reader]) -> Reader:
    """Ask until a stream comes to its terminal event."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            reader = ask()
            await eventually(lambda reader=reader: reader.code, "the stream ends")  # type: ignore[misc]
            if reader.ended:
                return reader


async def test_the_owner_dies_before_it_has_said_the_beginning(
    start_stage: StartStage, proxy: Proxy, direct: dict[str, str]
) -> None:
    """Nothing was shown of it, however long it had begun for its owner: it begins anew and is not lost."""
    async with start_stage(redis_url=patient(proxy)) as stage, stage.another(**direct) as second:
        user, request_id = await stage.user(), str(uuid.uuid4())
        proxy.swallow()
        stage.prepare()
        reader = user.stream(request_id=request_id)
        start = await stage.engine.next_start()
        with psycopg.connect(stage.environment["CHATMESH_DATABASE_URL"], autocommit=True) as connection:
            # The second of them at least knows that it has begun.
            for _ in range(2):
                await next_beat(connection, start.generation_id)
        await stage.node.kill()
        await reader.refusal()
        user.move_to(second.channel)
        again = user.stream(request_id=request_id)
        stage.prepare()
        next_start = await stage.engine.next_start()
        assert next_start.generation_id == f"{start.generation_id}.2.1"
        write_out(stage.engine, next_start)
        answer = await again.completed()
        assert (answer.content, answer.generation_id) == (TEXT, start.generation_id)
        assert len(await user.messages()) == 2


async def next_beat(connection: psycopg.Connection, generation_id: str) -> None:
    """Wait until the owner of a generation says once more that it lives."""

    def lease() -> object:
        row = connection.execute(
            "SELECT s.alive_until FROM conversation.generations g JOIN conversation.servers s ON s.owner = g.owner"
            " WHERE g.id = %s",
            [generation_id],
        ).fetchone()
        assert row is not None
        return row[0]

    before = lease()
    await eventually(lambda: lease() != before, "its owner says that it lives")
