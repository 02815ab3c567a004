"""Replicas that fail: before any text another one is tried, after it what was shown is kept."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from chatmesh.conversation.v1 import conversation_pb2
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import DomainError, Reason
from tests.rpc.conversation.conftest import StartStage
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import words

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAILED = conversation_pb2.MESSAGE_STATUS_FAILED


async def gone(stage: Stage, generation_id: str) -> None:
    stage.engine.break_off(grpc.StatusCode.UNAVAILABLE)


async def ended(stage: Stage, generation_id: str) -> None:
    stage.engine.break_off()


async def refuses(stage: Stage, generation_id: str) -> None:
    error = DomainError(Reason.OVERLOADED, "The queue is full.")
    stage.engine.say(stage.engine.last(generation_id, reason=chat_pb2.FINISH_REASON_ERROR, error=error))


@pytest.mark.parametrize("fault", [gone, ended, refuses])
async def test_before_any_text_another_replica_is_tried(stage: Stage, fault: Any) -> None:
    user = await stage.user()
    reader, start = await stage.turn(user, model="auto")
    stage.router.route.queue(stage.to(stage.other_engine))
    await fault(stage, start.generation_id)
    again = await stage.other_engine.next_start()
    assert again.generation_id == start.generation_id
    assert (again.messages, again.sampling, again.model) == (start.messages, start.sampling, start.model)
    first, second = stage.router.route.requests
    assert (first.model, list(first.excluded_replica_ids)) == ("auto", [])
    # The model that the prompt was counted for, not the alias.
    assert (second.model, list(second.excluded_replica_ids)) == ("small", ["replica-a"])
    stage.other_engine.finish(again.generation_id, "Here.")
    answer = await reader.completed()
    assert (answer.content, answer.route.replica_id, answer.route.requested_model) == ("Here.", "replica-b", "auto")
    assert reader.kinds == ["started", "delta", "completed"]


async def test_a_replica_that_is_not_there(stage: Stage) -> None:
    await stage.engine.stop()
    try:
        stage.prepare(route=(stage.to(stage.engine), stage.to(stage.other_engine)))
        reader = (await stage.user()).stream()
        again = await stage.other_engine.next_start()
    finally:
        await stage.engine.start()
    stage.other_engine.finish(again.generation_id, "Here.")
    assert (await reader.completed()).content == "Here."


async def test_nobody_else_can(stage: Stage) -> None:
    reader, start = await stage.turn(await stage.user())
    # Asked three times, for a router that has no replica may have one in a moment.
    stage.router.route.queue(*[DomainError(Reason.NO_REPLICA, "None is left.")] * 3)
    await gone(stage, start.generation_id)
    failed = await reader.failed()
    assert failed.error.reason == Reason.ENGINE_FAILED
    assert (failed.message.content, failed.message.status) == ("", FAILED)
    assert (await stage.usage.settled(start.generation_id)).usage == chat_pb2.TokenUsage()


async def test_no_more_than_three_replicas_are_tried(stage: Stage) -> None:
    reader, start = await stage.turn(await stage.user())
    stage.router.route.queue(stage.to(stage.other_engine), stage.to(stage.engine))
    await refuses(stage, start.generation_id)
    second = await stage.other_engine.next_start()
    error = DomainError(Reason.OVERLOADED, "The queue is full.")
    stage.other_engine.say(
        stage.other_engine.last(second.generation_id, reason=chat_pb2.FINISH_REASON_ERROR, error=error)
    )
    third = await stage.engine.next_start()
    await refuses(stage, third.generation_id)
    assert (await reader.failed()).error.reason == Reason.OVERLOADED
    assert [list(request.excluded_replica_ids) for request in stage.router.route.requests] == [
        [],
        ["replica-a"],
        ["replica-a", "replica-b"],
    ]


@pytest.mark.parametrize("fault", [gone, ended, refuses])
async def test_after_text_the_answer_fails_with_what_was_shown(stage: Stage, fault: Any) -> None:
    user = await stage.user()
    reader, start = await stage.turn(user)
    stage.engine.say(words(start.generation_id, "one two "))
    await reader.shows("one two ")
    await fault(stage, start.generation_id)
    failed = await reader.failed()
    assert failed.error.reason in (Reason.ENGINE_FAILED, Reason.OVERLOADED)
    assert (failed.message.content, failed.message.status) == ("one two ", FAILED)
    assert (await user.messages())[-1] == failed.message
    assert (await stage.usage.settled(start.generation_id)).usage.completion_tokens == 2
    assert len(stage.router.route.requests) == 1


async def test_one_broken_stream_concerns_all_of_its_answers(stage: Stage) -> None:
    with_text, first = await stage.turn(await stage.user())
    without, second = await stage.turn(await stage.user())
    stage.engine.say(words(first.generation_id, "one "))
    await with_text.shows("one ")
    stage.router.route.queue(stage.to(stage.other_engine))
    await gone(stage, second.generation_id)
    assert (await with_text.failed()).message.content == "one "
    again = await stage.other_engine.next_start()
    stage.other_engine.finish(again.generation_id, "two")
    assert (await without.completed()).content == "two"


async def test_an_engine_that_stalls(start_stage: StartStage) -> None:
    async with start_stage(stall_timeout_s=0.4) as stage:
        reader, start = await stage.turn(await stage.user())
        stage.engine.say(words(start.generation_id, "one two "))
        await reader.shows("one two ")
        failed = await reader.failed()
        assert failed.error.reason == Reason.ENGINE_FAILED
        assert (failed.message.content, failed.message.status) == ("one two ", FAILED)
        await stage.engine.was_cancelled(start.generation_id)
        assert (await stage.usage.settled(start.generation_id)).usage.completion_tokens == 2


async def test_an_engine_that_never_begins(start_stage: StartStage) -> None:
    async with start_stage(first_token_timeout_s=0.4) as stage:
        reader, start = await stage.turn(await stage.user())
        stage.router.route.queue(stage.to(stage.other_engine))
        again = await stage.other_engine.next_start()
        await stage.engine.was_cancelled(start.generation_id)
        stage.other_engine.finish(again.generation_id, "Here.")
        assert (await reader.completed()).content == "Here."
