"""Clients that go away: a turn goes on without them, a completion ends with them."""

from __future__ import annotations

import asyncio
import json
import uuid

import grpc
import pytest

from chatmesh.conversation.v1 import conversation_pb2
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import Reason, from_rpc_error
from tests.rpc.conversation.peers import assembled, granted
from tests.rpc.conversation.scripted import Held, eventually
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import words

pytestmark = pytest.mark.asyncio(loop_scope="session")

COMPLETED = conversation_pb2.MESSAGE_STATUS_COMPLETED


async def test_during_the_preparation(stage: Stage) -> None:
    user = await stage.user()
    held = Held()
    stage.prepare(acquire=held)
    reader = user.stream()
    await held.called.wait()
    await reader.leave()
    assert reader.kinds == []
    # The cancel has arrived once a later call was answered.
    await user.messages()
    held.reply(granted())
    start = await stage.engine.next_start()
    stage.engine.finish(start.generation_id, "For later.")
    answer = await user.stored(lambda message: message.status == COMPLETED, "the answer is stored")
    assert answer.content == "For later."


async def test_at_once(stage: Stage) -> None:
    """Whatever had arrived of it: the turn is stored whole or not at all, and the same request_id leads to it."""
    user = await stage.user()
    request_id = str(uuid.uuid4())
    stage.prepare()
    await user.stream(request_id=request_id).leave()
    reader = user.stream(request_id=request_id)
    start = await stage.engine.next_start()
    stage.engine.finish(start.generation_id, "Once.")
    assert (await reader.completed()).content == "Once."
    assert len(await user.messages()) == 2


async def test_during_the_stream(stage: Stage) -> None:
    user = await stage.user()
    reader, start = await stage.turn(user)
    stage.engine.say(words(start.generation_id, "one "))
    await reader.shows("one ")
    await reader.leave()
    await user.messages()
    stage.engine.say(words(start.generation_id, "two "))
    stage.engine.finish(start.generation_id, "three")
    answer = await user.stored(lambda message: message.status == COMPLETED, "the answer is stored")
    assert answer.content == "one two three"
    assert start.generation_id not in stage.engine.cancelled


async def test_a_deadline_that_passes_during_the_stream(stage: Stage) -> None:
    user = await stage.user()
    reader, start = await stage.turn(user, timeout=1.0)
    stage.engine.say(words(start.generation_id, "one "))
    await reader.until(lambda reader: reader.code, "the deadline passes")
    assert reader.code is grpc.StatusCode.DEADLINE_EXCEEDED
    stage.engine.finish(start.generation_id, "two")
    answer = await user.stored(lambda message: message.status == COMPLETED, "the answer is stored")
    assert answer.content == "one two"


async def test_a_completion_ends_with_its_client(stage: Stage) -> None:
    user = await stage.user()
    stage.prepare()
    call = user.complete("Hello", stream=True)
    start = await stage.engine.next_start()
    stage.engine.say(words(start.generation_id, "one two "))
    assert b"one two " in (await call.read()).data
    call.cancel()
    await stage.engine.was_cancelled(start.generation_id)
    record = await stage.usage.settled(start.generation_id)
    assert record.finish_reason == chat_pb2.FINISH_REASON_CANCELLED
    assert record.usage.completion_tokens == 2
    assert record.conversation_id == ""


async def test_a_completion_whose_client_leaves_while_it_is_prepared(stage: Stage) -> None:
    user = await stage.user()
    held = [Held(), Held()]
    stage.prepare(route=held[0], assemble=held[1])
    call = user.complete("Hello", stream=True)
    async with asyncio.timeout(10):
        await asyncio.gather(*(each.called.wait() for each in held))
        await eventually(lambda: stage.usage.granted, "tokens are reserved")
        await eventually(lambda: not stage.moderation.check_input.waiting, "the message is checked")
        call.cancel()
        await asyncio.gather(*(each.cancelled.wait() for each in held))
    # Nobody is told to generate, and what was reserved is given back.
    assert (await stage.usage.settled(*stage.usage.granted)).usage == chat_pb2.TokenUsage()


async def test_a_completion_from_start_to_end(stage: Stage) -> None:
    user = await stage.user()
    stage.prepare()
    call = user.complete("Hello", stream=True, stream_options={"include_usage": True})
    start = await stage.engine.next_start()
    stage.engine.say(words(start.generation_id, "one "))
    data = (await call.read()).data
    stage.engine.finish(start.generation_id, "two")
    while (body := await call.read()) is not grpc.aio.EOF:
        data += body.data
    *events, done = [line.removeprefix("data: ") for line in data.decode().split("\n") if line]
    chunks = [json.loads(event) for event in events]
    assert done == "[DONE]"
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == "one two"
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    await stage.usage.settled(start.generation_id)
    assert await user.messages() == []


async def test_a_completion_into_which_not_all_messages_fit_is_refused(stage: Stage) -> None:
    user = await stage.user()
    stage.prepare(assemble=assembled("Hello", truncated=True))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await user.complete("Hi", "Hello").read()
    assert from_rpc_error(refused.value, service="conversation").reason is Reason.CONTEXT_LENGTH_EXCEEDED
    assert (await stage.usage.settled(*stage.usage.granted)).usage == chat_pb2.TokenUsage()
