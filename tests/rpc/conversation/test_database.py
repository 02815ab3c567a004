"""The database goes away at the end of a turn: the answer waits for it, and is stored once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from chatmesh.conversation.v1 import conversation_pb2
from services.runtime.errors import DomainError, Reason
from tests.rpc.conversation.conftest import StartStage
from tests.rpc.conversation.scripted import DEADLINE_S, Held, eventually
from tests.rpc.conversation.streams import words
from tests.rpc.conversation.tcp_proxy import Proxy, running_proxy
from tests.rpc.conversation.user import User

pytestmark = pytest.mark.asyncio(loop_scope="session")

COMPLETED = conversation_pb2.MESSAGE_STATUS_COMPLETED


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(postgres_url: str) -> AsyncIterator[Proxy]:
    [folder] = parse_qs(urlsplit(postgres_url).query)["host"]
    async with running_proxy(Path(folder) / ".s.PGSQL.5432") as proxy:
        yield proxy


@pytest.fixture
def proxied_url(postgres_url: str, proxy: Proxy) -> str:
    parts = urlsplit(postgres_url)
    return f"postgresql://{parts.username}@127.0.0.1:{proxy.port}{parts.path}"


async def test_it_is_gone_and_comes_back(start_stage: StartStage, proxy: Proxy, proxied_url: str) -> None:
    async with start_stage(database_url=proxied_url) as stage:
        user = await stage.user()
        reader, start = await stage.turn(user)
        stage.engine.say(words(start.generation_id, "one "))
        await reader.shows("one ")
        await proxy.down()
        stage.engine.finish(start.generation_id, "two")
        # All is shown; that it is complete is said only once it is stored.
        await reader.shows("one two")
        await eventually(lambda: stage.service.logged("database is not available"), "the fault bites")
        assert not reader.ended
        await proxy.up()
        answer = await reader.completed()
        assert (answer.content, answer.status) == ("one two", COMPLETED)
        assert (await user.messages())[-1] == answer
        await stage.usage.settled(start.generation_id)


async def test_a_new_turn_is_refused_without_it(start_stage: StartStage, proxy: Proxy, proxied_url: str) -> None:
    async with start_stage(database_url=proxied_url) as stage:
        user = await stage.user()
        await proxy.down()
        refusal = await user.stream().refusal()
        assert refusal.reason is Reason.DEPENDENCY_UNAVAILABLE
        assert refusal.metadata["service"] == "database"
        assert stage.usage.acquire.requests == []
        await eventually(lambda: stage.service.logged("not serving"), "the process has noticed")
        await proxy.up()
        await stage.serving_again()
        reader, start = await stage.turn(user)
        stage.engine.finish(start.generation_id, "Back.")
        await reader.completed()


async def test_a_refusal_while_it_is_away(start_stage: StartStage, proxy: Proxy, proxied_url: str) -> None:
    """The user is told at once; nobody answers later what was refused."""
    async with start_stage(database_url=proxied_url) as stage:
        user = await stage.user()
        held = Held()
        stage.prepare(acquire=held)
        reader = user.stream()
        await eventually(lambda: not any(method.waiting for method in stage.methods), "all were asked")
        await proxy.down()
        held.reply(DomainError(Reason.QUOTA_EXCEEDED, "Used up.", metadata={"tier": "pro"}))
        assert (await reader.refusal()).reason is Reason.QUOTA_EXCEEDED
        assert stage.service.logged("a refused turn is not undone yet")
        await eventually(lambda: stage.service.logged("not serving"), "the process has noticed")
        await proxy.up()
        await stage.serving_again()
        async with asyncio.timeout(DEADLINE_S):
            open_ = await user.generations()
            while open_:
                open_ = await user.generations()
        assert await user.messages() == []
        assert not stage.service.logged("took a generation over")
        reader, start = await stage.turn(user)
        stage.engine.finish(start.generation_id, "Back.")
        await reader.completed()


async def test_the_reply_to_the_commit_is_lost(start_stage: StartStage, proxy: Proxy, proxied_url: str) -> None:
    async with start_stage(database_url=proxied_url) as stage:
        user = await stage.user()
        reader, start = await stage.turn(user)
        proxy.cut_after(b"INSERT INTO conversation.usage_outbox")
        stage.engine.finish(start.generation_id, "Once.")
        answer = await reader.completed()
        assert proxy.cuts == 1
        assert (answer.content, answer.status) == ("Once.", COMPLETED)
        assert [message.content for message in await user.messages()] == ["Hello", "Once."]
        record = await stage.usage.settled(start.generation_id)
        assert record.usage == answer.usage


async def test_the_process_dies_in_the_middle_of_a_turn(start_stage: StartStage, postgres_url: str) -> None:
    """The next life of the same replica ends what the last one left open, with no lease to wait for."""
    async with start_stage(replica_id="conversation-0") as stage:
        user = await stage.user()
        reader, start = await stage.turn(user)
        id_ = start.generation_id
        stage.engine.say(words(id_, "one "))
        await reader.shows("one ")
        stage.prepare()
        async with stage.another(replica_id="conversation-0") as next_life:
            again = await stage.engine.next_start()
            assert again.generation_id == f"{id_}.2.1"
            watcher = User.of(user, next_life.channel).watch(id_)
            await watcher.shows("one ")
            # The first life, which is not dead after all, says nothing more; its client follows the second.
            await stage.engine.was_cancelled(id_)
            stage.engine.finish(again.generation_id, "two")
            answer = await reader.completed()
            assert (answer.content, answer.status) == ("one two", COMPLETED)
            assert await watcher.completed() == answer
            assert [message.content for message in await user.messages()] == ["Hello", "one two"]
            assert (await stage.usage.settled(id_)).usage == answer.usage
