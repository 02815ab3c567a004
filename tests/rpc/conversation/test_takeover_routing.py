"""What was decided for an answer stays decided when its server is gone: the model, the escalation, the experiment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import pytest_asyncio

from tests.rpc.conversation.conftest import StartStage
from tests.rpc.conversation.peers import assembled
from tests.rpc.conversation.scripted import eventually
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import words
from tests.rpc.conversation.tcp_proxy import Proxy, running_proxy
from tests.rpc.conversation.test_routing import cheap, considered, large
from tests.rpc.conversation.user import Reader

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def database_proxy(postgres_url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the database, and the URL through it."""
    parts = urlsplit(postgres_url)
    [folder] = parse_qs(parts.query)["host"]
    async with running_proxy(Path(folder) / ".s.PGSQL.5432") as proxy:
        yield proxy, f"postgresql://{parts.username}@127.0.0.1:{proxy.port}{parts.path}"


async def escalated(stage: Stage) -> tuple[Any, Reader, Any]:
    """An answer that the large model has begun anew: who asked, the events, and what the large one was told."""
    stage.prepare(route=(cheap(stage, weak_openings=["well"]), large(stage)), assemble=(assembled("Hello"),) * 2)
    user = await stage.user()
    reader = user.stream(model="auto")
    start = await stage.engine.next_start()
    stage.engine.say(words(start.generation_id, "Well, no."))
    again = await stage.other_engine.next_start()
    await stage.engine.was_cancelled(start.generation_id)
    return user, reader, again


def exposures(url: str, generation_id: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT experiment, arm, status FROM conversation.exposures WHERE generation_id = %s", [generation_id]
        ).fetchall()


async def test_the_log_of_an_escalated_answer_says_who_answered(
    start_stage: StartStage, database_proxy: tuple[Proxy, str], postgres_url: str
) -> None:
    proxy, proxied_url = database_proxy
    async with start_stage(database_url=proxied_url) as stage, stage.another(database_url=postgres_url) as second:
        user, reader, again = await escalated(stage)
        await proxy.down()
        stage.other_engine.finish(again.generation_id, "It is.")
        await reader.shows("It is.")
        await eventually(lambda: stage.service.logged("database is not available"), "it cannot be stored")
        await stage.node.kill()
        user.move_to(second.channel)
        answer = await user.watch(reader.generation_id, before=reader).completed()
        assert (answer.content, answer.model) == ("It is.", "large")
        route = answer.route
        assert (route.requested_model, route.model, route.escalated_from) == ("auto", "large", "small")
        assert (route.classification, route.replica_id, route.epochs) == ("simple:0.10", "", 2)
        assert considered(answer) == {"small": "weak_answer", "large": "", "tiny": "too_weak"}
        assert exposures(postgres_url, reader.generation_id) == [("cheap-first", "small", "completed")]


async def test_an_escalated_answer_that_goes_on_elsewhere_says_so(start_stage: StartStage) -> None:
    async with start_stage() as stage, stage.another() as second:
        user, reader, again = await escalated(stage)
        stage.other_engine.say(words(again.generation_id, "It "))
        await reader.shows("It ")
        stage.prepare(route=large(stage))
        await stage.node.kill()
        user.move_to(second.channel)
        watcher = user.watch(reader.generation_id, before=reader)
        start = await stage.other_engine.next_start()
        assert stage.router.route.requests[-1].model == "large"
        stage.other_engine.finish(start.generation_id, "is.")
        answer = await watcher.completed()
        assert (answer.content, answer.model) == ("It is.", "large")
        assert (answer.route.escalated_from, answer.route.epochs) == ("small", 2)
        assert considered(answer) == {"small": "weak_answer", "large": "", "tiny": "too_weak"}


async def test_what_was_shown_is_continued_by_its_own_model_only(start_stage: StartStage) -> None:
    """Another model has other tokens, and its prompt may be another one."""
    async with start_stage() as stage, stage.another() as second:
        user = await stage.user()
        reader, start = await stage.turn(user)
        stage.engine.say(words(start.generation_id, "one "))
        await reader.shows("one ")
        # The Router falls back to another model until a replica of the first one is back.
        for route in (large(stage), stage.to(stage.engine)):
            stage.prepare(route=route)
        await stage.node.kill()
        user.move_to(second.channel)
        watcher = user.watch(reader.generation_id, before=reader)
        again = await stage.engine.next_start()
        assert (again.model, [piece.text for piece in again.continuation]) == ("small", ["one "])
        stage.engine.finish(again.generation_id, "two")
        answer = await watcher.completed()
        assert (answer.content, answer.model) == ("one two", "small")


async def test_before_any_text_another_model_may_take_over_and_then_keeps_it(start_stage: StartStage) -> None:
    async with start_stage() as stage, stage.another() as second, stage.another() as third:
        user = await stage.user()
        reader, _ = await stage.turn(user, model="auto")
        stage.prepare(route=large(stage))
        await stage.node.kill()
        user.move_to(second.channel)
        watcher = user.watch(reader.generation_id, before=reader)
        start = await stage.other_engine.next_start()
        stage.other_engine.say(words(start.generation_id, "one "))
        await watcher.shows("one ")
        stage.prepare(route=large(stage))
        owner, heir = (second, third) if second.service.logged("took a generation over") else (third, second)
        await owner.kill()
        user.move_to(heir.channel)
        watcher = user.watch(reader.generation_id, before=watcher)
        again = await stage.other_engine.next_start()
        asked = [(request.model, request.continues) for request in stage.router.route.requests]
        assert asked == [("auto", False), ("auto", False), ("large", True)]
        stage.other_engine.finish(again.generation_id, "two")
        answer = await watcher.completed()
        assert (answer.content, answer.model) == ("one two", "large")


async def test_who_asked_and_for_whom_is_known_to_the_next_server(start_stage: StartStage) -> None:
    identity = {"x-chatmesh-tier": "pro", "x-chatmesh-residency": "eu", "x-chatmesh-tenant": "acme"}
    async with start_stage() as stage, stage.another() as second:
        user = await stage.user()
        mine = {**identity, "x-chatmesh-user": user.id}
        user._metadata = tuple(mine.items())
        reader, start = await stage.turn(user)
        stage.engine.say(words(start.generation_id, "Some of it."))
        await reader.shows("Some of it.")
        stage.prepare()
        await stage.node.kill()
        user.move_to(second.channel)
        watcher = user.watch(reader.generation_id)
        again = await stage.engine.next_start()
        stage.engine.finish(again.generation_id, " And the rest.")
        assert (await watcher.completed()).content == "Some of it. And the rest."
        for method in stage.methods:
            for metadata in method.metadata:
                assert {key: metadata.get(key) for key in mine} == mine, method.name
            assert len(method.metadata) == 2
