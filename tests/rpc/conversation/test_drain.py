"""SIGTERM: what runs ends in time, and nothing new begins."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from chatmesh.conversation.v1 import conversation_pb2
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import Reason, from_rpc_error
from tests.rpc.conversation.conftest import StartStage
from tests.rpc.conversation.scripted import eventually
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import words
from tests.rpc.conversation.user import User, stored_answer

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def terminate(stage: Stage) -> None:
    stage.service.process.terminate()
    await eventually(lambda: stage.service.logged("draining"), "it drains")


async def test_what_ends_within_the_grace_is_complete(start_stage: StartStage, postgres_url: str) -> None:
    async with start_stage(drain_grace_s=20) as stage:
        user, other = await stage.user(), await stage.user()
        reader, start = await stage.turn(user)
        stage.engine.say(words(start.generation_id, "one "))
        await reader.shows("one ")
        await terminate(stage)

        refusal = await other.stream().refusal()
        assert refusal.reason is Reason.DRAINING
        assert stage.usage.acquire.requests[1:] == []

        stage.engine.finish(start.generation_id, "two")
        assert (await reader.completed()).content == "one two"
        assert await asyncio.to_thread(stage.service.wait) == 0
        assert start.generation_id not in stage.engine.cancelled
        assert start.generation_id in stage.usage.ledger


async def test_what_takes_longer_is_stopped_with_what_was_shown(start_stage: StartStage, postgres_url: str) -> None:
    async with start_stage(drain_grace_s=0.3) as stage:
        user = await stage.user()
        reader, start = await stage.turn(user)
        stage.engine.say(words(start.generation_id, "one two "))
        await reader.shows("one two ")
        await terminate(stage)
        answer = await reader.completed()
        assert (answer.content, answer.status) == ("one two ", conversation_pb2.MESSAGE_STATUS_STOPPED)
        assert answer.finish_reason == chat_pb2.FINISH_REASON_CANCELLED
        assert start.generation_id in stage.engine.cancelled
        assert await asyncio.to_thread(stage.service.wait) == 0
        assert stored_answer(postgres_url, start.generation_id) == ("one two ", "stopped")
        assert stage.usage.ledger[start.generation_id].usage.completion_tokens == 2


async def test_a_completion_is_stopped_too(start_stage: StartStage) -> None:
    async with start_stage(drain_grace_s=0.3) as stage:
        stage.prepare()
        call = (await stage.user()).complete("Hello")
        start = await stage.engine.next_start()
        stage.engine.say(words(start.generation_id, "one two "))
        await stage.moderation.has(start.generation_id, "one two ")
        await terminate(stage)
        assert b'"one two "' in (await call.read()).data
        assert await asyncio.to_thread(stage.service.wait) == 0
        assert start.generation_id in stage.usage.ledger


async def test_a_completion_that_comes_too_late_reserves_nothing(start_stage: StartStage) -> None:
    async with start_stage(drain_grace_s=20) as stage:
        reader, start = await stage.turn(await stage.user())
        await terminate(stage)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await User(stage.channel).complete("Hello").read()
        assert from_rpc_error(refused.value, service="conversation").reason is Reason.DRAINING
        assert len(stage.usage.acquire.requests) == 1
        stage.engine.finish(start.generation_id, "Done.")
        await reader.completed()
