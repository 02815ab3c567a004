"""Replicas that fail: another one goes on from what was written, and what was shown never changes."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from chatmesh.conversation.v1 import conversation_pb2, generation_event_pb2
from chatmesh.type.v1 import chat_pb2
from services.conversation.generator import MAX_LEGS
from services.runtime.errors import DomainError, Reason
from tests.rpc.conversation.conftest import StartStage
from tests.rpc.conversation.peers import PROMPT_TOKENS
from tests.rpc.conversation.scripted import Held, eventually
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import clear, tokens, words

pytestmark = pytest.mark.asyncio(loop_scope="session")

COMPLETED = conversation_pb2.MESSAGE_STATUS_COMPLETED
FAILED = conversation_pb2.MESSAGE_STATUS_FAILED
REPLACED = generation_event_pb2.NOTICE_KIND_ENGINE_REPLACED
TOKENS = [(f"{word} ", number) for number, word in enumerate("one two three four five".split(), 1)]


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
    assert again.generation_id == f"{start.generation_id}.1.2"
    assert not again.continuation
    assert (again.messages, again.sampling, again.model) == (start.messages, start.sampling, start.model)
    first, second = stage.router.route.requests
    assert (first.model, list(first.excluded_replica_ids)) == ("auto", [])
    # The model that the prompt was counted for, not the alias.
    assert (second.model, list(second.excluded_replica_ids)) == ("small", ["replica-a"])
    assert (first.continues, second.continues) == (False, True)
    # One that is busy works.
    assert second.failed_replica_id == ("" if fault is refuses else "replica-a")
    stage.other_engine.finish(again.generation_id, "Here.")
    answer = await reader.completed()
    assert (answer.content, answer.route.replica_id, answer.route.requested_model) == ("Here.", "replica-b", "auto")
    assert reader.kinds == ["started", "notice", "delta", "completed"]
    assert reader.notices == [REPLACED]


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


async def test_nobody_else_can(start_stage: StartStage) -> None:
    async with start_stage(recovery_timeout_s=0) as stage:
        reader, start = await stage.turn(await stage.user())
        # Asked three times, for a router that has no replica may have one in a moment.
        stage.router.route.queue(*[DomainError(Reason.NO_REPLICA, "None is left.")] * 3)
        await gone(stage, start.generation_id)
        failed = await reader.failed()
        assert failed.error.reason == Reason.ENGINE_FAILED
        assert (failed.message.content, failed.message.status) == ("", FAILED)
        assert (await stage.usage.settled(start.generation_id)).usage == chat_pb2.TokenUsage()


@pytest.mark.parametrize("reason", [Reason.NO_REPLICA, Reason.RESIDENCY_UNAVAILABLE])
async def test_the_same_replica_is_asked_again_when_there_is_no_other(stage: Stage, reason: Reason) -> None:
    """It may have been restarted, under the same name."""
    reader, start = await stage.turn(await stage.user())
    stage.engine.say(tokens(start.generation_id, *TOKENS[:2]))
    await reader.shows("one two ")
    stage.router.route.queue(*[DomainError(reason, "None is left.")] * 3, stage.to(stage.engine))
    await gone(stage, start.generation_id)
    again = await stage.engine.next_start()
    excluded = [list(request.excluded_replica_ids) for request in stage.router.route.requests]
    assert excluded == [[], ["replica-a"], ["replica-a"], ["replica-a"], []]
    stage.engine.finish(again.generation_id, "three")
    assert (await reader.completed()).content == "one two three"


async def test_when_all_are_full_who_asks_is_told_at_once(stage: Stage) -> None:
    """An answer that has begun waits for a place; one that has not can be asked for again."""
    reader, start = await stage.turn(await stage.user())
    stage.router.route.queue(*[DomainError(Reason.NO_REPLICA, "No other one is there.")] * 3)
    error = DomainError(Reason.OVERLOADED, "The queue is full.", retry_after_s=3.0)
    stage.engine.say(stage.engine.last(start.generation_id, reason=chat_pb2.FINISH_REASON_ERROR, error=error))
    assert (await reader.failed()).error.reason == Reason.OVERLOADED
    # One call that was tried three times, and none for the replica that is full.
    excluded = [list(request.excluded_replica_ids) for request in stage.router.route.requests]
    assert excluded == [[], *[["replica-a"]] * 3]


async def test_an_answer_that_kills_its_engines_ends(stage: Stage) -> None:
    reader, start = await stage.turn(await stage.user())
    engines = [stage.engine, stage.other_engine] * 3
    stage.router.route.queue(*(stage.to(engine) for engine in engines[1:MAX_LEGS]))
    for number, engine in enumerate(engines[:MAX_LEGS], 1):
        if number > 1:
            start = await engine.next_start()
            assert start.generation_id == f"{reader.generation_id}.1.{number}"
        error = DomainError(Reason.OVERLOADED, "The queue is full.", retry_after_s=3.5)
        engine.say(engine.last(start.generation_id, reason=chat_pb2.FINISH_REASON_ERROR, error=error))
    failed = await reader.failed()
    assert failed.error.reason == Reason.OVERLOADED
    assert failed.error.retry_after.ToTimedelta().total_seconds() == 3.5
    assert reader.notices == [REPLACED] * (MAX_LEGS - 1)
    names = [engine.replica_id for engine in engines]
    excluded = [list(request.excluded_replica_ids) for request in stage.router.route.requests]
    assert excluded == [names[:count] for count in range(MAX_LEGS)]


@pytest.mark.parametrize("fault", [gone, ended, refuses])
async def test_after_text_another_replica_continues(stage: Stage, fault: Any) -> None:
    user = await stage.user()
    reader, start = await stage.turn(user)
    stage.engine.say(tokens(start.generation_id, *TOKENS[:2]))
    stage.engine.say(tokens(start.generation_id, *TOKENS[2:3]))
    await reader.shows("one two three ")
    stage.router.route.queue(stage.to(stage.other_engine))
    await fault(stage, start.generation_id)
    again = await stage.other_engine.next_start()
    assert again.generation_id == f"{start.generation_id}.1.2"
    assert (again.messages, again.model) == (start.messages, start.model)
    # Exactly what was generated, and room for what is left.
    assert [(piece.text, list(piece.token_ids)) for piece in again.continuation] == [("one two three ", [1, 2, 3])]
    assert again.sampling.max_tokens == start.sampling.max_tokens - 3
    stage.other_engine.say(tokens(again.generation_id, *TOKENS[3:4]))
    stage.other_engine.finish(again.generation_id, "five")
    answer = await reader.completed()
    assert reader.notices == [REPLACED]
    assert "retracted" not in reader.kinds
    assert (answer.content, answer.status) == ("one two three four five", COMPLETED)
    assert answer.route.replica_id == "replica-b"
    # Each token counts once, and what the second engine read again is no prompt.
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (PROMPT_TOKENS, 5)
    assert (await user.messages())[-1] == answer
    assert (await stage.usage.settled(start.generation_id)).usage == answer.usage


async def test_what_was_written_and_not_yet_clear_is_continued_too(stage: Stage) -> None:
    stage.moderation.clears = False
    reader, start = await stage.turn(await stage.user())
    id_ = start.generation_id
    stage.engine.say(tokens(id_, *TOKENS[:3]))
    await stage.moderation.has(id_, "one two three ")
    stage.moderation.say(clear(id_, 5))
    await reader.shows("one t")
    stage.router.route.queue(stage.to(stage.other_engine))
    await gone(stage, id_)
    again = await stage.other_engine.next_start()
    assert "".join(piece.text for piece in again.continuation) == "one two three "
    stage.other_engine.finish(again.generation_id, "four")
    # Moderation never heard of it: its text goes on where it was.
    await stage.moderation.has(id_, "one two three four", complete=True)
    stage.moderation.say(clear(id_, 18, done=True))
    assert (await reader.completed()).content == "one two three four"


async def test_a_stop_while_no_engine_has_the_answer(stage: Stage) -> None:
    user = await stage.user()
    reader, start = await stage.turn(user)
    stage.engine.say(tokens(start.generation_id, *TOKENS[:2]))
    await reader.shows("one two ")
    held = Held()
    stage.router.route.queue(held)
    await gone(stage, start.generation_id)
    await held.called.wait()
    stopping = asyncio.create_task(user.stop(start.generation_id))
    await eventually(lambda: not stopping.done(), "the stop is under way")
    held.reply(stage.to(stage.other_engine))
    answer = await reader.completed()
    assert (answer.content, answer.finish_reason) == ("one two ", chat_pb2.FINISH_REASON_CANCELLED)
    await stopping
    while not stage.other_engine.unseen.empty():
        # It may have been started just before the stop came.
        late = stage.other_engine.unseen.get_nowait()
        await stage.other_engine.was_cancelled(late.generation_id)


async def test_one_broken_stream_concerns_all_of_its_answers(stage: Stage) -> None:
    with_text, first = await stage.turn(await stage.user())
    without, second = await stage.turn(await stage.user())
    stage.engine.say(words(first.generation_id, "one "))
    await with_text.shows("one ")
    stage.router.route.queue(*[stage.to(stage.other_engine)] * 2)
    await gone(stage, second.generation_id)
    starts = {start.generation_id: start for start in [await stage.other_engine.next_start() for _ in range(2)]}
    continued, anew = starts[f"{first.generation_id}.1.2"], starts[f"{second.generation_id}.1.2"]
    assert "".join(piece.text for piece in continued.continuation) == "one "
    assert not anew.continuation
    for start in (continued, anew):
        stage.other_engine.finish(start.generation_id, "two")
    assert (await with_text.completed()).content == "one two"
    assert (await without.completed()).content == "two"


async def test_an_engine_that_stalls(start_stage: StartStage) -> None:
    async with start_stage(stall_timeout_s=0.4) as stage:
        reader, start = await stage.turn(await stage.user())
        stage.engine.say(tokens(start.generation_id, *TOKENS[:2]))
        await reader.shows("one two ")
        stage.router.route.queue(stage.to(stage.other_engine))
        stage.engine.answers_cancels = False
        again = await stage.other_engine.next_start()
        await stage.engine.was_cancelled(start.generation_id)
        assert [list(piece.token_ids) for piece in again.continuation] == [[1, 2]]
        # One that was only slow, and goes on: nobody hears it any more.
        stage.engine.finish(start.generation_id, "and never mind")
        stage.other_engine.finish(again.generation_id, "three")
        assert (await reader.completed()).content == "one two three"
        assert (await stage.usage.settled(start.generation_id)).usage.completion_tokens == 3


async def test_an_engine_that_never_begins(start_stage: StartStage) -> None:
    async with start_stage(first_token_timeout_s=0.4) as stage:
        reader, start = await stage.turn(await stage.user())
        stage.router.route.queue(stage.to(stage.other_engine))
        again = await stage.other_engine.next_start()
        await stage.engine.was_cancelled(start.generation_id)
        stage.other_engine.finish(again.generation_id, "Here.")
        assert (await reader.completed()).content == "Here."
