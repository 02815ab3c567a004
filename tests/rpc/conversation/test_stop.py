"""StopGeneration: from any process, at any moment of a generation, however often."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from chatmesh.conversation.v1 import conversation_pb2, conversation_service_pb2, generation_service_pb2
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import DomainError, Reason
from tests.rpc.conversation.conftest import StartStage
from tests.rpc.conversation.peers import granted
from tests.rpc.conversation.scripted import Held, eventually
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import clear, words
from tests.rpc.conversation.user import Reader, User

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUEUE = conversation_service_pb2.ON_BUSY_QUEUE
STOPPED = generation_service_pb2.GENERATION_STATE_STOPPED
COMPLETED = generation_service_pb2.GENERATION_STATE_COMPLETED


async def stopped_with(stage: Stage, user: User, reader: Reader, text: str) -> None:
    answer = await reader.completed()
    assert (answer.content, answer.status) == (text, conversation_pb2.MESSAGE_STATUS_STOPPED)
    assert answer.finish_reason == chat_pb2.FINISH_REASON_CANCELLED
    assert (await user.messages())[-1] == answer
    assert (await stage.usage.settled(reader.generation_id)).usage == answer.usage
    assert answer.usage.completion_tokens == len(text.split())


async def test_where_it_runs(stage: Stage) -> None:
    user = await stage.user()
    reader, start = await stage.turn(user)
    stage.engine.say(words(start.generation_id, "one two "))
    await reader.shows("one two ")
    stopped = await user.stop(start.generation_id)
    assert stopped.state == STOPPED
    assert start.generation_id in stage.engine.cancelled
    await stopped_with(stage, user, reader, "one two ")


async def test_from_another_process(start_stage: StartStage) -> None:
    async with start_stage() as stage, stage.another() as second:
        user = await stage.user()
        reader, start = await stage.turn(user)
        stage.engine.say(words(start.generation_id, "one two "))
        await reader.shows("one two ")
        elsewhere = User.of(user, second.channel)
        first, again = await asyncio.gather(*(elsewhere.stop(start.generation_id) for _ in range(2)))
        assert first.state == again.state == STOPPED
        # The engine was told once.
        assert stage.engine.cancelled == [start.generation_id]
        await stopped_with(stage, user, reader, "one two ")
        # One that has ended is returned as it is.
        assert (await elsewhere.stop(start.generation_id)) == (await user.stop(start.generation_id)) == first


async def test_one_that_was_completed_stays_so(stage: Stage) -> None:
    user = await stage.user()
    reader, start = await stage.turn(user)
    stage.engine.finish(start.generation_id, "Done.")
    answer = await reader.completed()
    assert (await user.stop(start.generation_id)).state == COMPLETED
    assert (await user.messages())[-1] == answer
    assert stage.engine.cancelled == []


async def test_during_the_preparation(stage: Stage) -> None:
    user = await stage.user()
    held = Held()
    stage.prepare(acquire=held)
    reader = user.stream()
    await held.called.wait()
    [generation] = await user.generations()
    stopping = asyncio.create_task(user.stop(generation.id))
    # A call that came later was answered: the stop is known.
    await user.messages()
    held.reply(granted())
    answer = await reader.completed()
    assert (answer.content, answer.status) == ("", conversation_pb2.MESSAGE_STATUS_STOPPED)
    assert (await stopping).state == STOPPED
    while not stage.engine.unseen.empty():
        # The stop may have come just after the engine was told; then it was told to leave off.
        await stage.engine.was_cancelled(stage.engine.unseen.get_nowait().generation_id)


async def test_an_engine_that_never_says_that_it_has_stopped(stage: Stage) -> None:
    stage.engine.answers_cancels = False
    user = await stage.user()
    reader, start = await stage.turn(user)
    stage.engine.say(words(start.generation_id, "one two "))
    await reader.shows("one two ")
    stopped = await user.stop(start.generation_id)
    assert stopped.state == STOPPED
    await stopped_with(stage, user, reader, "one two ")
    stage.engine.finish(start.generation_id, "never mind")


async def test_what_moderation_still_holds_back_is_not_lost(stage: Stage) -> None:
    stage.moderation.clears = False
    user = await stage.user()
    reader, start = await stage.turn(user)
    id_ = start.generation_id
    stage.engine.say(words(id_, "one two "))
    await stage.moderation.has(id_, "one two ")
    stopping = asyncio.create_task(user.stop(id_))
    await stage.engine.was_cancelled(id_)
    await stage.moderation.has(id_, "one two ", complete=True)
    stage.moderation.say(clear(id_, 8, done=True))
    await stopped_with(stage, user, reader, "one two ")
    assert (await stopping).state == STOPPED


async def test_one_of_another_user(stage: Stage) -> None:
    user, other = await stage.user(), await stage.user()
    reader, start = await stage.turn(user)
    with pytest.raises(DomainError) as refused:
        await other.stop(start.generation_id)
    assert refused.value.reason is Reason.GENERATION_NOT_FOUND
    assert stage.engine.cancelled == []
    stage.engine.finish(start.generation_id, "Done.")
    assert (await reader.completed()).content == "Done."


async def test_messages_that_wait_for_an_answer(stage: Stage) -> None:
    """They are sent in their order; one whose client has left is not sent, and nothing of it is stored."""
    user = await stage.user()
    first, start = await stage.turn(user, "First")
    queued = []
    for content in ("Second", "Never", "Third"):
        queued.append(user.stream(content, on_busy=QUEUE))
        # This answer comes after the request was received, for a connection keeps the order.
        await user.messages()
    await queued[1].leave()
    assert [message.content for message in await user.messages()] == ["First", ""]
    for content, reader in (("Second", queued[0]), ("Third", queued[2])):
        stage.prepare(content)
        stage.engine.finish(start.generation_id, "Yes.")
        await first.completed()
        start = await stage.engine.next_start()
        first = reader
        await reader.started()
    stage.engine.finish(start.generation_id, "Yes.")
    await first.completed()
    contents = [message.content for message in await user.messages()]
    assert contents == ["First", "Yes.", "Second", "Yes.", "Third", "Yes."]


async def test_a_request_that_runs_does_not_wait_behind_those_that_came_later(stage: Stage) -> None:
    user = await stage.user()
    request_id = str(uuid.uuid4())
    first, start = await stage.turn(user, "First", request_id=request_id, on_busy=QUEUE)
    queued = user.stream("Second", on_busy=QUEUE)
    await user.messages()
    again = user.stream("First", request_id=request_id, on_busy=QUEUE)
    # Its answer is still being generated.
    await again.started()
    assert again.generation_id == start.generation_id
    other = user.stream("Other", request_id=request_id, on_busy=QUEUE)
    assert (await other.refusal()).reason is Reason.REQUEST_ID_REUSED
    stage.prepare("Second")
    stage.engine.finish(start.generation_id, "Yes.")
    assert (await first.completed()) == (await again.completed())
    stage.engine.finish((await stage.engine.next_start()).generation_id, "Yes.")
    await queued.completed()


async def test_a_message_that_waits_for_an_answer_elsewhere(start_stage: StartStage) -> None:
    async with start_stage() as stage, stage.another() as second:
        user = await stage.user()
        reader, start = await stage.turn(user)
        elsewhere = User.of(user, second.channel)
        refusal = await elsewhere.stream("Now").refusal()
        assert refusal.reason is Reason.CONVERSATION_BUSY
        assert refusal.metadata["generation_id"] == start.generation_id
        queued = elsewhere.stream("Later", on_busy=QUEUE)
        await elsewhere.messages()
        stage.prepare("Later")
        stage.engine.finish(start.generation_id, "Done.")
        await reader.completed()
        second_start = await stage.engine.next_start()
        stage.engine.finish(second_start.generation_id, "Done too.")
        await queued.completed()
        await eventually(lambda: len(stage.usage.ledger) == 2, "both are settled")
