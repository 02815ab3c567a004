"""What is generated beside turns: titles, which are stored, and temporary chats, of which nothing is."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from redis.asyncio import Redis

from chatmesh.conversation.v1 import conversation_pb2, user_service_pb2
from chatmesh.conversation.v1.user_service_pb2_grpc import UserServiceStub
from chatmesh.moderation.v1 import moderation_service_pb2, verdict_pb2
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import DomainError, Reason
from tests.rpc.conversation.conftest import StartStage
from tests.rpc.conversation.scripted import Held, eventually
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import allowed, words
from tests.rpc.conversation.test_refusals import BLOCKED
from tests.rpc.conversation.user import User

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "xyzzyplugh"


async def answered(stage: Stage, user: User, content: str = "Hello", **replies: Any) -> None:
    stage.prepare(content, **replies)
    reader = user.stream(content)
    start = await stage.engine.next_start()
    stage.engine.finish(start.generation_id, "An answer.")
    await reader.completed()


async def titled(user: User) -> str:
    """Wait for a title."""
    title = ""
    while not title:
        title = (await user.conversation()).title
    return title


async def test_a_title_is_written_after_the_first_answer(start_stage: StartStage) -> None:
    async with start_stage(title_model="auto") as stage:
        user = await stage.user()
        stage.prepare()
        # Prepared before the turn ends, for the title begins as soon as that has.
        reader = user.stream("What is a mesh?")
        start = await stage.engine.next_start()
        stage.prepare()
        stage.engine.finish(start.generation_id, "Many services.")
        # The turn has ended while the title is not even begun to be written.
        await reader.completed()
        title = await stage.engine.next_start()
        assert (await user.conversation()).title == ""
        request = stage.router.route.requests[-1]
        assert (request.model, request.conversation_id, request.background) == ("auto", "", True)
        check = stage.moderation.check_input.requests[-1]
        assert "What is a mesh?" in check.texts[-1]
        assert "Many services." in check.texts[-1]
        # The mesh asks, in words of the model too: nothing of it is held against the user.
        assert check.last_origin == moderation_service_pb2.INPUT_ORIGIN_UNTRUSTED
        stage.engine.finish(title.generation_id, '"Title: What a Mesh Is."\nand more')
        assert await titled(user) == "What a Mesh Is"
        await stage.usage.settled(title.generation_id)
        # It is neither a message nor a generation of the conversation.
        assert len(await user.messages()) == 2
        assert len(await user.generations()) == 1
        # And not again after the second.
        await answered(stage, user, "And?")
        assert len(await user.messages()) == 4


async def test_a_title_that_was_given_stays(start_stage: StartStage) -> None:
    async with start_stage(title_model="auto") as stage:
        user = await stage.user(title="Mine")
        await answered(stage, user)
        # A turn of somebody without a title shows that there was time for this one's.
        other = await stage.user()
        reader, start = await stage.turn(other)
        stage.prepare()
        stage.engine.finish(start.generation_id, "An answer.")
        await reader.completed()
        title = await stage.engine.next_start()
        stage.engine.finish(title.generation_id, "Theirs")
        assert await titled(other) == "Theirs"
        assert (await user.conversation()).title == "Mine"


@pytest.mark.parametrize(
    ("reply", "title"),
    [(BLOCKED, ""), (DomainError(Reason.QUOTA_EXCEEDED, "Used up.", metadata={"tier": "pro"}), "Hello")],
)
async def test_a_title_that_cannot_be_written(start_stage: StartStage, reply: Any, title: str) -> None:
    async with start_stage(title_model="auto") as stage:
        user = await stage.user()
        reader, start = await stage.turn(user)
        held = Held()
        replies: dict[str, Any] = {"check_input" if reply is BLOCKED else "acquire": held}
        stage.prepare(**replies)
        stage.engine.finish(start.generation_id, "An answer.")
        await reader.completed()
        await eventually(lambda: not any(method.waiting for method in stage.methods), "all were asked")
        held.reply(reply)
        if title:
            assert await titled(user) == title
        else:
            await eventually(lambda: stage.service.logged("no title was written"), "it is given up")
            assert (await user.conversation()).title == ""


async def test_what_was_redacted_is_in_no_title(start_stage: StartStage) -> None:
    async with start_stage(title_model="auto") as stage:
        user = await stage.user()
        redacted = allowed()
        redacted.verdict.action = verdict_pb2.ACTION_REDACT
        redacted.verdict.redacted_text = "My card is [card]"
        stage.prepare("My card is 4111", check_input=redacted)
        reader = user.stream("My card is 4111")
        start = await stage.engine.next_start()
        held = Held()
        stage.prepare(acquire=held)
        stage.engine.finish(start.generation_id, "Noted.")
        await reader.completed()
        await eventually(lambda: not any(method.waiting for method in stage.methods), "all were asked")
        assert "User: My card is [card]" in stage.moderation.check_input.requests[-1].texts[-1]
        # No model writes a title, so the question's first words are it.
        held.reply(DomainError(Reason.QUOTA_EXCEEDED, "Used up.", metadata={"tier": "pro"}))
        assert await titled(user) == "My card is [card]"


async def test_no_title_after_a_turn_that_was_refused(start_stage: StartStage) -> None:
    async with start_stage(title_model="auto") as stage:
        user = await stage.user()
        held = Held()
        stage.prepare(check_input=held)
        reader = user.stream()
        await eventually(lambda: not any(method.waiting for method in stage.methods), "all were asked")
        held.reply(BLOCKED)
        assert (await reader.refusal()).reason is Reason.CONTENT_BLOCKED
        assert (await user.conversation()).title == ""


def message(role: Any, content: str) -> chat_pb2.ChatMessage:
    return chat_pb2.ChatMessage(role=role, content=content)


def rows(url: str) -> str:
    """Everything that the tables hold."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'conversation'"
        ).fetchall()
        assert len(tables) > 5
        return str(
            {
                name: connection.execute(f'SELECT * FROM conversation."{name}"'.encode()).fetchall()
                for [name] in tables
                if name not in ("servers", "usage_outbox")
            }
        )


async def test_of_a_temporary_chat_nothing_is_stored(
    start_stage: StartStage, postgres_url: str, redis_url: str
) -> None:
    redis: Any = Redis.from_url(redis_url)
    async with redis, start_stage() as stage:
        user = await stage.user()
        stub: Any = UserServiceStub(stage.channel)
        stage.moderation.check_input.queue(allowed())
        await stub.UpdateSettings(
            user_service_pb2.UpdateSettingsRequest(custom_instructions="I am Ann.", default_model="mine"),
            metadata=(("x-chatmesh-user", user.id),),
        )
        before, keys = rows(postgres_url), set(await redis.keys())
        stage.prepare(SECRET)
        reader = user.temporary(
            message(chat_pb2.ROLE_USER, f"{SECRET} one"),
            message(chat_pb2.ROLE_ASSISTANT, f"{SECRET} two"),
            message(chat_pb2.ROLE_USER, f"{SECRET} three"),
            system_prompt="Be kind.",
        )
        start = await stage.engine.next_start()
        asked = stage.context.assemble.requests[-1]
        assert (asked.custom_instructions, asked.system_prompt) == ("I am Ann.", "Be kind.")
        assert asked.user_message == f"{SECRET} three"
        assert [m.message.content for m in asked.first_page.messages] == [f"{SECRET} two", f"{SECRET} one"]
        # None of it was checked before.
        checked = stage.moderation.check_input.requests[-1]
        assert list(checked.texts) == ["Be kind.", "I am Ann.", f"{SECRET} one", f"{SECRET} three"]
        # What the client says that the model said is anybody's.
        assert [(part.origin, part.text) for part in checked.context] == [
            (moderation_service_pb2.INPUT_ORIGIN_EARLIER_TURN, f"{SECRET} one"),
            (moderation_service_pb2.INPUT_ORIGIN_UNTRUSTED, f"{SECRET} two"),
        ]
        assert stage.router.route.requests[-1].model == "mine"
        stage.engine.say(words(start.generation_id, f"{SECRET} and "))
        await reader.shows(f"{SECRET} and ")
        assert set(await redis.keys()) == keys
        assert rows(postgres_url) == before
        stage.engine.finish(start.generation_id, "so on")
        answer = await reader.completed()
        assert (answer.content, answer.id, answer.conversation_id) == (f"{SECRET} and so on", "", "")
        assert answer.status == conversation_pb2.MESSAGE_STATUS_COMPLETED
        record = await stage.usage.settled(start.generation_id)
        assert record.usage == answer.usage
        assert rows(postgres_url) == before
        assert set(await redis.keys()) == keys
        assert SECRET not in "".join(stage.service.text)


async def test_who_leaves_a_temporary_chat_stops_it(stage: Stage) -> None:
    user = await stage.user()
    stage.prepare()
    reader = user.temporary(message(chat_pb2.ROLE_USER, "Hello"))
    start = await stage.engine.next_start()
    stage.engine.say(words(start.generation_id, "one "))
    await reader.shows("one ")
    await reader.leave()
    await stage.engine.was_cancelled(start.generation_id)
    assert (await stage.usage.settled(start.generation_id)).usage.completion_tokens == 1


@pytest.mark.parametrize(
    "roles",
    [[chat_pb2.ROLE_SYSTEM, chat_pb2.ROLE_USER], [chat_pb2.ROLE_USER, chat_pb2.ROLE_ASSISTANT], []],
)
async def test_a_temporary_chat_that_makes_no_sense(stage: Stage, roles: list[Any]) -> None:
    user = await stage.user()
    refusal = await user.temporary(*(message(role, "Hello") for role in roles)).refusal()
    assert refusal.reason is Reason.INVALID_FIELD
    assert refusal.fields[0].field.startswith("messages")
