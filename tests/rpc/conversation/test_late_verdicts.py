"""Verdicts that come late reach answers on their way, stored ones and those who read them again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from chatmesh.conversation.v1 import conversation_pb2, generation_service_pb2
from chatmesh.moderation.v1 import late_verdict_pb2, moderation_service_pb2, verdict_pb2
from chatmesh.type.v1 import chat_pb2
from services.conversation.late_verdicts import GROUP, STREAM
from services.conversation.log_store import log_key
from services.runtime.errors import Reason
from tests.rpc.conversation.conftest import StartStage
from tests.rpc.conversation.openai_calls import Client
from tests.rpc.conversation.scripted import DEADLINE_S, eventually
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import words
from tests.rpc.conversation.tcp_proxy import Proxy, running_proxy
from tests.rpc.conversation.user import Reader, User

pytestmark = pytest.mark.asyncio(loop_scope="session")

BLOCKED = conversation_pb2.MESSAGE_STATUS_BLOCKED
COMPLETED = conversation_pb2.MESSAGE_STATUS_COMPLETED
GONE = "(taken back)"
TEXT = "An unspeakable answer"
RETRACT = late_verdict_pb2.LATE_ACTION_RETRACT
RESTORE = late_verdict_pb2.LATE_ACTION_RESTORE


class Late:
    """Whoever decides too late."""

    def __init__(self, redis: Redis, url: str) -> None:
        self.redis = redis
        self.url = url

    async def say(
        self, user: User, generation_id: str, action: late_verdict_pb2.LateAction = RETRACT, **fields: Any
    ) -> None:
        verdict = late_verdict_pb2.LateVerdict(
            generation_id=generation_id,
            user_id=user.id,
            action=action,
            category="violence",
            replacement=GONE if action == RETRACT else "",
            event_id="8e6b0a51-58f5-4b4e-9a3e-1d2f3c4b5a69",
            policy_version="p2",
            **fields,
        )
        await self.redis.xadd(STREAM, {"v": verdict.SerializeToString()})

    async def all_done(self) -> None:
        """Everything that was said has taken effect."""
        async with asyncio.timeout(DEADLINE_S):
            while await self._left():  # noqa: ASYNC110 - what it asks is in Redis
                await asyncio.sleep(0.01)

    async def _left(self) -> int:
        waiting = await self.redis.xlen(STREAM)
        try:
            return int(waiting + (await self.redis.xpending(STREAM, GROUP))["pending"])
        except ResponseError:
            # Nobody has read yet.
            return int(waiting)


@pytest_asyncio.fixture(loop_scope="session")
async def late(redis_server: str) -> AsyncIterator[Late]:
    """A Redis in which no other process reads."""
    url = f"{redis_server}?db=9"
    async with Redis.from_url(url) as redis:
        await redis.flushdb()
        yield Late(redis, url)


@asynccontextmanager
async def answered(stage: Stage) -> AsyncIterator[tuple[User, Reader, conversation_pb2.Message]]:
    """A user with an answer that is stored."""
    user = await stage.user()
    reader, start = await stage.turn(user)
    stage.engine.finish(start.generation_id, TEXT)
    yield user, reader, await reader.completed()


def is_taken_back(message: conversation_pb2.Message, *, content: str = GONE) -> None:
    assert (message.content, message.status) == (content, BLOCKED)
    assert message.finish_reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
    assert message.error.reason == Reason.CONTENT_BLOCKED
    assert message.error.metadata["category"] == "violence"
    assert message.error.metadata["event_id"]


async def resumed(user: User, generation_id: str, after_seq: int) -> list[Any]:
    request = generation_service_pb2.WatchGenerationRequest(generation_id=generation_id, after_seq=after_seq)
    return [event async for event in user._generations.WatchGeneration(request, metadata=user.metadata)]


async def test_an_answer_on_its_way_is_taken_back_before_its_reader(start_stage: StartStage, late: Late) -> None:
    async with start_stage(redis_url=late.url) as stage:
        user = await stage.user()
        reader, start = await stage.turn(user)
        stage.engine.say(words(start.generation_id, TEXT))
        await reader.shows(TEXT)
        await late.say(user, start.generation_id)
        failed = await reader.failed()
        assert failed.error.reason == Reason.CONTENT_BLOCKED
        is_taken_back(failed.message)
        assert (reader.text, reader.kinds[-2:]) == (GONE, ["retracted", "failed"])
        assert reader.events[-2].retracted.category == "violence"
        await stage.engine.was_cancelled(start.generation_id)
        is_taken_back((await user.messages())[-1])
        generation = await user.generation(start.generation_id)
        assert generation.state == generation_service_pb2.GENERATION_STATE_BLOCKED
        # A replay tells the same story, and who comes back in its middle goes on in it.
        again = user.watch(start.generation_id)
        assert (await again.failed(), again.text) == (failed, GONE)
        assert [event.WhichOneof("event") for event in await resumed(user, start.generation_id, 2)] == [
            "retracted",
            "failed",
        ]
        # What it took is counted.
        assert (await stage.usage.settled(start.generation_id)).usage.completion_tokens == 3
        await late.all_done()


async def test_a_stored_answer_is_taken_back_from_all_who_read_it_again(start_stage: StartStage, late: Late) -> None:
    async with start_stage(redis_url=late.url) as stage, answered(stage) as (user, reader, answer):
        id_ = answer.generation_id
        assert await late.redis.exists(log_key(id_))
        await late.say(user, id_)
        await late.all_done()
        message = (await user.messages())[-1]
        is_taken_back(message)
        assert (await user.messages())[0].status == COMPLETED
        # No log tells it any more.
        assert not await late.redis.exists(log_key(id_))
        again = user.watch(id_)
        assert (await again.failed()).message == message
        assert again.text == GONE
        # A client that comes back is told that what it has must go, also one that had seen the end.
        for seq in (1, reader.seq - 1, reader.seq):
            gone, failed = await resumed(user, id_, seq)
            assert (gone.retracted.start, gone.retracted.end) == (0, len(TEXT))
            assert gone.retracted.replacement == GONE
            assert failed.failed.message == message
        assert await resumed(user, id_, reader.seq + 2) == []
        # The next turn does not see it.
        _, start = await stage.turn(user, "And now?")
        stage.engine.finish(start.generation_id, "Nothing.")


async def test_what_is_taken_back_can_be_given_back(start_stage: StartStage, late: Late) -> None:
    async with start_stage(redis_url=late.url) as stage, answered(stage) as (user, reader, answer):
        id_ = answer.generation_id
        await late.say(user, id_)
        await late.say(user, id_, RESTORE, text=TEXT)
        await late.all_done()
        message = (await user.messages())[-1]
        assert (message.content, message.status) == (TEXT, COMPLETED)
        assert not message.HasField("error")
        back, completed = await resumed(user, id_, reader.seq + 2)
        assert (back.retracted.replacement, completed.completed.message) == (TEXT, message)
        watcher = user.watch(id_)
        assert await watcher.completed() == message


async def test_a_question_is_taken_back_while_it_is_answered(start_stage: StartStage, late: Late) -> None:
    async with start_stage(redis_url=late.url) as stage:
        user = await stage.user()
        reader, start = await stage.turn(user, "How to?")
        stage.engine.say(words(start.generation_id, TEXT))
        await reader.shows(TEXT)
        await late.say(user, start.generation_id, input=True)
        is_taken_back((await reader.failed()).message)
        question, answer = await user.messages()
        assert (question.content, question.status) == ("How to?", BLOCKED)
        assert question.error.metadata["event_id"] == answer.error.metadata["event_id"]
        await late.say(user, start.generation_id, RESTORE, input=True, text="How to?")
        await late.all_done()
        question, _ = await user.messages()
        assert (question.status, question.HasField("error")) == (COMPLETED, False)


async def test_a_question_that_a_person_lets_pass_is_answered_though_the_policy_refuses_it(
    start_stage: StartStage, late: Late
) -> None:
    async with start_stage(redis_url=late.url) as stage:
        user = await stage.user()
        refusal = moderation_service_pb2.CheckInputResponse(
            verdict=verdict_pb2.Verdict(
                action=verdict_pb2.ACTION_HOLD,
                findings=[verdict_pb2.Finding(category="violence", action=verdict_pb2.ACTION_HOLD)],
                event_id="8e6b0a51-58f5-4b4e-9a3e-1d2f3c4b5a69",
            )
        )
        stage.prepare("How to?", check_input=refusal)
        assert (await user.stream("How to?").refusal()).reason is Reason.CONTENT_HELD
        question, _ = await user.messages()
        assert question.status == conversation_pb2.MESSAGE_STATUS_HELD
        await late.say(user, question.generation_id, RESTORE, input=True)
        await late.all_done()
        stage.prepare("How to?", check_input=refusal)
        reader = user.regenerate(question.id)
        start = await stage.engine.next_start()
        stage.engine.finish(start.generation_id, "Like so.")
        assert (await reader.completed()).content == "Like so."
        assert [(message.content, message.status) for message in await user.messages()] == [
            ("How to?", COMPLETED),
            ("Like so.", COMPLETED),
        ]


async def test_the_same_verdict_twice(start_stage: StartStage, late: Late) -> None:
    async with start_stage(redis_url=late.url) as stage, answered(stage) as (user, reader, answer):
        for _ in range(3):
            await late.say(user, answer.generation_id)
        await late.all_done()
        _, failed = await resumed(user, answer.generation_id, 1)
        # Told once.
        assert failed.seq == reader.seq + 2


async def test_of_several_servers_any_may_hear_of_it(start_stage: StartStage, late: Late) -> None:
    async with start_stage(redis_url=late.url) as stage, stage.another(redis_url=late.url) as second:
        running = []
        for channel in (stage.channel, second.channel) * 3:
            user = await stage.user()
            user.move_to(channel)
            reader, start = await stage.turn(user)
            stage.engine.say(words(start.generation_id, TEXT))
            await reader.shows(TEXT)
            running.append((user, reader))
        for user, reader in running:
            await late.say(user, reader.generation_id)
        for user, reader in running:
            is_taken_back((await reader.failed()).message)
            assert reader.text == GONE
            is_taken_back((await user.messages())[-1])
        await late.all_done()


async def test_a_server_dies_with_verdicts_and_answers_in_its_hands(start_stage: StartStage, late: Late) -> None:
    async with start_stage(redis_url=late.url) as stage, stage.another(redis_url=late.url) as heir:
        running, stored = [], []
        for number in range(6):
            user = await stage.user()
            reader, start = await stage.turn(user)
            if number % 2:
                stage.engine.finish(start.generation_id, TEXT)
                stored.append((user, await reader.completed()))
            else:
                stage.engine.say(words(start.generation_id, TEXT))
                await reader.shows(TEXT)
                running.append((user, reader))
        # What it is sent now it takes, and never answers.
        stage.node.pause()
        for user, reader in running:
            await late.say(user, reader.generation_id)
        for user, answer in stored:
            await late.say(user, answer.generation_id)
        await stage.node.kill()
        for _ in running:
            # The heir goes on with an answer if it does not hear of the verdict first.
            stage.prepare()
        for user, reader in running:
            # The fault bites: its readers are cut off, with the text.
            await reader.until(lambda reader: reader.code, "its server is gone")
            user.move_to(heir.channel)
            watcher = user.watch(reader.generation_id, before=reader)
            is_taken_back((await watcher.failed()).message)
            assert watcher.text == GONE
        await late.all_done()
        stage.engine.forget()
        for method in stage.methods:
            method.forget()
        for user, answer in stored:
            user.move_to(heir.channel)
            is_taken_back((await user.messages())[-1])
            assert [event.WhichOneof("event") for event in await resumed(user, answer.generation_id, 2)] == [
                "retracted",
                "failed",
            ]


async def test_answers_that_nobody_stores_are_taken_back_wherever_they_run(start_stage: StartStage, late: Late) -> None:
    async with start_stage(redis_url=late.url) as stage, stage.another(redis_url=late.url) as second:
        user = await stage.user()
        for channel in (stage.channel, second.channel):
            user.move_to(channel)
            stage.prepare("Hi")
            reader = user.temporary(chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content="Hi"))
            start = await stage.engine.next_start()
            stage.engine.say(words(start.generation_id, TEXT))
            await reader.shows(TEXT)
            await late.say(user, start.generation_id)
            is_taken_back((await reader.failed()).message)
            assert (reader.text, reader.kinds[-2:]) == (GONE, ["retracted", "failed"])
            await stage.engine.was_cancelled(start.generation_id)
        client = Client(second.channel)
        stage.prepare("Hello")
        completion = client.complete(stream=True)
        start = await stage.engine.next_start()
        stage.engine.say(words(start.generation_id, TEXT))
        await completion.shows(TEXT)
        await late.say(user, start.generation_id)
        await completion.ended()
        # This protocol takes nothing back.
        assert (completion.text(), completion.reasons(), completion.done) == (TEXT, ["content_filter"], True)
        await late.all_done()


async def test_redis_goes_and_comes_back_with_nothing(start_stage: StartStage, late: Late, redis_server: str) -> None:
    async with running_proxy(Path(urlsplit(redis_server).path)) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/9"
        async with start_stage(redis_url=url) as stage, answered(stage) as (user, _, answer):
            await forgotten(stage, late, proxy)
            await late.say(user, answer.generation_id)
            await late.all_done()
            is_taken_back((await user.messages())[-1])


async def forgotten(stage: Stage, late: Late, proxy: Proxy) -> None:
    await proxy.down()
    await eventually(lambda: stage.service.logged("stream is not read"), "it notices")
    await late.redis.flushdb()
    await proxy.up()


async def test_the_database_is_away(start_stage: StartStage, late: Late, postgres_url: str) -> None:
    pieces = urlsplit(postgres_url)
    folder = pieces.query.partition("host=")[2].replace("%2F", "/")
    async with running_proxy(Path(folder) / ".s.PGSQL.5432") as proxy:
        url = f"postgresql://{pieces.username}@127.0.0.1:{proxy.port}{pieces.path}"
        async with start_stage(redis_url=late.url, database_url=url) as stage, answered(stage) as (user, _, answer):
            stage.node.complains = True
            await proxy.down()
            await late.say(user, answer.generation_id)
            await eventually(lambda: stage.service.logged("a late verdict has to wait"), "it notices")
            await proxy.up()
            await late.all_done()
            is_taken_back((await user.messages())[-1])
