"""A process that dies or is paused: another one goes on with its answers, and who watches misses nothing."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from chatmesh.conversation.v1 import conversation_pb2, generation_event_pb2, generation_service_pb2
from chatmesh.inference.v1.generation_pb2 import GenerationStart
from services.conversation.log_store import log_key
from tests.rpc.conversation.conftest import StartStage
from tests.rpc.conversation.peers import PROMPT_TOKENS
from tests.rpc.conversation.script import SCRIPT, TEXT, position, write, write_out
from tests.rpc.conversation.scripted import Held, eventually
from tests.rpc.conversation.stage import Node, Stage
from tests.rpc.conversation.streams import tokens, words
from tests.rpc.conversation.tcp_proxy import Proxy, running_proxy
from tests.rpc.conversation.user import Reader, User

_log = logging.getLogger(__name__)

pytestmark = pytest.mark.asyncio(loop_scope="session")

COMPLETED = conversation_pb2.MESSAGE_STATUS_COMPLETED
OWNER_REPLACED = generation_event_pb2.NOTICE_KIND_OWNER_REPLACED
OPEN = generation_service_pb2.GENERATION_STATE_OPEN
TURNS = 8


@pytest_asyncio.fixture(loop_scope="session")
async def database_proxy(postgres_url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the database, and the URL through it."""
    parts = urlsplit(postgres_url)
    [folder] = parse_qs(parts.query)["host"]
    async with running_proxy(Path(folder) / ".s.PGSQL.5432") as proxy:
        yield proxy, f"postgresql://{parts.username}@127.0.0.1:{proxy.port}{parts.path}"


async def cut_off(reader: Reader) -> None:
    """The fault bites: a client that does not go on elsewhere has a part of the answer only."""
    await reader.until(lambda reader: reader.code, "its server is gone")
    assert not reader.ended


async def all_is_well(
    stage: Stage, user: User, watcher: Reader, *, epoch: int, told: bool = True
) -> conversation_pb2.Message:
    """The answer is whole and stored once, whoever looks."""
    answer = await watcher.completed()
    assert answer.content == TEXT
    assert answer.status == COMPLETED
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (PROMPT_TOKENS, len(SCRIPT))
    assert watcher.notices == [OWNER_REPLACED] * (epoch - 1 if told else 0)
    assert "retracted" not in watcher.kinds
    # From the start, after it all: the same.
    again = user.watch(watcher.generation_id)
    assert await again.completed() == answer
    assert (again.notices, again.seq) == (watcher.notices, watcher.seq)
    question, stored = await user.messages()
    assert (question.content, stored) == ("Hello", answer)
    assert (await user.generation(watcher.generation_id)).epoch == epoch
    assert (await stage.usage.settled(watcher.generation_id)).usage == answer.usage
    return answer


async def test_it_is_killed_at_random_points_and_so_is_the_next(start_stage: StartStage) -> None:
    seed = random.randrange(2**32)
    _log.warning("seed %d", seed)
    rng = random.Random(seed)
    async with start_stage() as stage, stage.another() as second:
        users = [await stage.user() for _ in range(TURNS)]
        turns = [await stage.turn(user) for user in users]
        readers = {reader.generation_id: reader for reader, _ in turns}
        of = dict(zip(readers, users, strict=True))
        starts = {start.generation_id: start for _, start in turns}
        await lose(stage, stage.node, second, starts, readers, of, rng)
        async with stage.another() as third:
            await lose(stage, second, third, starts, readers, of, rng)
            for start in starts.values():
                write_out(stage.engine, start)
            for id_, watcher in readers.items():
                await all_is_well(stage, of[id_], watcher, epoch=3)


async def lose(
    stage: Stage,
    owner: Node,
    heir: Node,
    starts: dict[str, GenerationStart],
    readers: dict[str, Reader],
    users: dict[str, User],
    rng: random.Random,
) -> None:
    """Kill the owner while all of its answers are being written, each at another point; the heir goes on with them."""
    cuts = {id_: rng.randrange(len(SCRIPT) - position(start) + 1) for id_, start in starts.items()}
    _log.warning("cuts %s", list(cuts.values()))
    order = [id_ for id_, cut in cuts.items() for _ in range(cut)]
    rng.shuffle(order)
    said = dict.fromkeys(cuts, 0)
    for id_ in order:
        write(stage.engine, starts[id_], 1, already=said[id_])
        said[id_] += 1
        # Whatever the owner has done with it by the end.
        await asyncio.sleep(rng.choice([0, 0, 0.002]))
    for _ in starts:
        stage.prepare()
    await owner.kill()
    for id_, reader in readers.items():
        await cut_off(reader)
        users[id_].move_to(heir.channel)
        readers[id_] = users[id_].watch(id_, before=reader)
    epoch = 0
    for _ in range(len(starts)):
        start = await stage.engine.next_start()
        id_, epoch_, leg = start.generation_id.split(".")
        epoch = int(epoch_)
        assert leg == "1"
        # No more than was written, and no less than was shown.
        shown = readers[id_].text
        written = TEXT[: len("".join(text for text, _ in SCRIPT[: position(start)]))]
        assert written.startswith(shown)
        assert position(starts[id_]) <= position(start) <= position(starts[id_]) + said[id_]
        starts[id_] = start
    for reader in readers.values():
        await reader.until(lambda reader: len(reader.notices) == epoch - 1, "its watchers are told")


async def test_it_is_killed_when_all_is_shown_and_nothing_is_stored(
    start_stage: StartStage, database_proxy: tuple[Proxy, str], postgres_url: str
) -> None:
    """The engine has ended: nobody has to be asked anything any more, it is only to be stored."""
    proxy, proxied_url = database_proxy
    async with start_stage(database_url=proxied_url) as stage, stage.another(database_url=postgres_url) as second:
        user = await stage.user()
        reader, start = await stage.turn(user)
        await proxy.down()
        write_out(stage.engine, start)
        await reader.shows(TEXT)
        await eventually(lambda: stage.service.logged("database is not available"), "it cannot be stored")
        await stage.node.kill()
        await cut_off(reader)
        user.move_to(second.channel)
        await all_is_well(stage, user, user.watch(reader.generation_id, before=reader), epoch=2, told=False)
        # The check after each test sees that no engine was told anything, and none of the services asked.


async def test_it_is_killed_and_restarted_under_its_name(start_stage: StartStage) -> None:
    async with start_stage(replica_id="conversation-0") as stage:
        user = await stage.user()
        reader, start = await stage.turn(user)
        write(stage.engine, start, 10)
        await reader.until(lambda reader: reader.text, "some is shown")
        await stage.node.kill()
        await cut_off(reader)
        stage.prepare()
        async with stage.another(replica_id="conversation-0") as next_life:
            user.move_to(next_life.channel)
            watcher = user.watch(reader.generation_id, before=reader)
            write_out(stage.engine, await stage.engine.next_start())
            await all_is_well(stage, user, watcher, epoch=2)
            # With no lease to wait for, and none waited for.
            assert len(next_life.service.logged("took a generation over")) == 1


async def test_it_is_paused_for_longer_than_its_lease(start_stage: StartStage, redis_server: str) -> None:
    async with start_stage() as stage, stage.another() as second:
        users = [await stage.user() for _ in range(3)]
        turns = [await stage.turn(user) for user in users]
        ids = [reader.generation_id for reader, _ in turns]
        for reader, start in turns:
            write(stage.engine, start, 5)
            await reader.shows(TEXT[: len("".join(text for text, _ in SCRIPT[:5]))])
        for _ in turns:
            stage.prepare()
        stage.node.pause()
        try:
            for _, start in turns:
                # It will find this when it wakes: text that was never shown, and must not be.
                stage.engine.say(words(start.generation_id, "what nobody may ever see "))
            again = {
                start.generation_id.partition(".")[0]: start
                for start in [await stage.engine.next_start() for _ in turns]
            }
            # Of one the new owner has come to the end, of another it has shown some, of the third nothing.
            write_out(stage.engine, again[ids[0]])
            elsewhere = User.of(users[0], second.channel)
            await all_is_well(stage, elsewhere, elsewhere.watch(ids[0]), epoch=2)
            write(stage.engine, again[ids[1]], 5)
            watcher = User.of(users[1], second.channel).watch(ids[1])
            await watcher.shows("".join(text for text, _ in SCRIPT[:10]))
        finally:
            stage.node.resume()
        for id_ in ids:
            await stage.engine.was_cancelled(id_)
        write_out(stage.engine, again[ids[1]], already=5)
        write_out(stage.engine, again[ids[2]])
        # Its clients, which were connected to it all the time, read on from what the new owner says.
        for user, (reader, _) in zip(users, turns, strict=True):
            await all_is_well(stage, user, reader, epoch=2)
        assert len(stage.service.logged("generation was taken over")) >= 3
        redis: Any = Redis.from_url(redis_server)
        async with redis:
            for id_ in ids:
                owners = [row[0].decode().partition("-")[0] for row in await redis.xrange(log_key(id_))]
                assert owners == sorted(owners)
                assert set(owners) == {"1", "2"}


async def test_it_dies_before_the_turn_has_begun(start_stage: StartStage) -> None:
    async with start_stage() as stage, stage.another() as second:
        user, request_id = await stage.user(), str(uuid.uuid4())
        held = Held()
        stage.prepare(acquire=held)
        reader = user.stream(request_id=request_id)
        await held.called.wait()
        [generation] = await user.generations()
        await stage.node.kill()
        await reader.refusal()
        # The same request again, elsewhere: it joins the turn that nobody runs yet.
        user.move_to(second.channel)
        again = user.stream(request_id=request_id)
        assert (await user.generation(generation.id)).state == OPEN
        stage.prepare()
        start = await stage.engine.next_start()
        assert start.generation_id == f"{generation.id}.2.1"
        write_out(stage.engine, start)
        answer = await again.completed()
        assert (answer.content, answer.generation_id) == (TEXT, generation.id)
        assert again.notices == []
        assert len(await user.messages()) == 2
        assert (await stage.usage.settled(generation.id)).usage == answer.usage


async def test_it_is_paused_before_the_turn_has_begun(start_stage: StartStage) -> None:
    async with start_stage() as stage, stage.another() as second:
        user = await stage.user()
        held = Held()
        stage.prepare(acquire=held)
        reader = user.stream()
        await held.called.wait()
        [generation] = await user.generations()
        stage.node.pause()
        try:
            stage.prepare()
            start = await stage.engine.next_start()
        finally:
            stage.node.resume()
        # Its time to ask was over when it woke. It refuses, and undoes and gives back nothing that is not its own.
        await reader.refusal()
        watcher = User.of(user, second.channel).watch(generation.id)
        write_out(stage.engine, start)
        answer = await watcher.completed()
        assert len(await user.messages()) == 2
        assert (await stage.usage.settled(generation.id)).usage == answer.usage


async def test_a_stop_that_its_owner_did_not_live_to_see(start_stage: StartStage) -> None:
    async with start_stage() as stage, stage.another() as second:
        user = await stage.user()
        reader, start = await stage.turn(user)
        stage.engine.say(tokens(start.generation_id, *SCRIPT[:3]))
        await reader.shows("w1 w2 w3 ")
        await stage.node.kill()
        user.move_to(second.channel)
        # It is written down, though nobody runs the generation. Whoever takes it over needs no engine for it.
        stopped = await user.stop(reader.generation_id)
        watcher = user.watch(reader.generation_id, before=reader)
        answer = await watcher.completed()
        assert (answer.content, answer.status) == ("w1 w2 w3 ", conversation_pb2.MESSAGE_STATUS_STOPPED)
        assert stopped.state in (OPEN, generation_service_pb2.GENERATION_STATE_STOPPED)
        assert (await stage.usage.settled(reader.generation_id)).usage.completion_tokens == 3
