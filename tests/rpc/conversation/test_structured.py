"""Answers of a fixed form when their engine is lost: said again from the start and compared, never broken."""

from __future__ import annotations

import grpc
import pytest

from chatmesh.conversation.v1 import conversation_pb2, generation_event_pb2
from chatmesh.inference.v1.generation_pb2 import GenerationStart
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import Reason
from tests.rpc.conversation.peers import PROMPT_TOKENS
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import tokens
from tests.rpc.conversation.user import Reader, User

pytestmark = pytest.mark.asyncio(loop_scope="session")

JSON = chat_pb2.SamplingOptions(response_format=chat_pb2.ResponseFormat(json_object=True), max_tokens=50)
SAID = [('{"a"', 1), (": ", 2), ("1, ", 3)]
TEXT = '{"a": 1, '


async def lost_in_the_middle(stage: Stage) -> tuple[User, Reader, GenerationStart]:
    user = await stage.user()
    reader, start = await stage.turn(user, sampling=JSON)
    assert start.sampling.response_format.json_object
    stage.engine.say(tokens(start.generation_id, *SAID))
    await reader.shows(TEXT)
    stage.router.route.queue(stage.to(stage.other_engine))
    stage.engine.break_off(grpc.StatusCode.UNAVAILABLE)
    again = await stage.other_engine.next_start()
    # From the beginning: a grammar cannot be entered in the middle.
    assert not again.continuation
    assert again.sampling == start.sampling
    return user, reader, again


@pytest.mark.parametrize("pieces", [[TEXT + '"b": 2}'], list(TEXT + '"b": 2}'), ['{"a": 1', ', "b"', ": 2}"]])
async def test_the_same_again_goes_on(stage: Stage, pieces: list[str]) -> None:
    user, reader, again = await lost_in_the_middle(stage)
    for number, piece in enumerate(pieces):
        stage.other_engine.say(tokens(again.generation_id, (piece, number)))
    stage.other_engine.finish(again.generation_id)
    answer = await reader.completed()
    assert answer.content == TEXT + '"b": 2}'
    assert reader.notices == [generation_event_pb2.NOTICE_KIND_ENGINE_REPLACED]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (PROMPT_TOKENS, len(pieces))
    assert (await user.messages())[-1] == answer
    await stage.usage.settled(reader.generation_id)


@pytest.mark.parametrize("pieces", [['{"b": 2}'], ['{"a": ', "2}"], ["{", "}"]])
async def test_something_else_fails(stage: Stage, pieces: list[str]) -> None:
    user, reader, again = await lost_in_the_middle(stage)
    for number, piece in enumerate(pieces):
        stage.other_engine.say(tokens(again.generation_id, (piece, number)))
    failed = await reader.failed()
    assert failed.error.reason == Reason.ANSWER_LOST
    assert failed.error.metadata == {"generation_id": reader.generation_id}
    assert (failed.message.content, failed.message.status) == (TEXT, conversation_pb2.MESSAGE_STATUS_FAILED)
    assert (await user.messages())[-1] == failed.message
    await stage.other_engine.was_cancelled(again.generation_id)
    await stage.usage.settled(reader.generation_id)


async def test_the_end_comes_too_early(stage: Stage) -> None:
    _, reader, again = await lost_in_the_middle(stage)
    stage.other_engine.finish(again.generation_id, '{"a"')
    assert (await reader.failed()).error.reason == Reason.ANSWER_LOST


async def test_it_is_lost_while_it_is_said_again(stage: Stage) -> None:
    _, reader, again = await lost_in_the_middle(stage)
    stage.other_engine.say(tokens(again.generation_id, SAID[0]))
    stage.router.route.queue(stage.to(stage.engine))
    stage.other_engine.break_off(grpc.StatusCode.UNAVAILABLE)
    third = await stage.engine.next_start()
    assert not third.continuation
    stage.engine.say(tokens(third.generation_id, *SAID))
    stage.engine.finish(third.generation_id, '"b": 2}')
    assert (await reader.completed()).content == TEXT + '"b": 2}'


async def test_it_is_stopped_while_it_is_said_again(stage: Stage) -> None:
    user, reader, again = await lost_in_the_middle(stage)
    stage.other_engine.say(tokens(again.generation_id, SAID[0]))
    await user.stop(reader.generation_id)
    answer = await reader.completed()
    assert (answer.content, answer.status) == (TEXT, conversation_pb2.MESSAGE_STATUS_STOPPED)
    # What was generated counts, though it was not said again.
    assert answer.usage.completion_tokens == len(SAID)
    await stage.usage.settled(reader.generation_id)


async def test_its_replica_shuts_down_while_it_is_said_again(stage: Stage) -> None:
    _, reader, again = await lost_in_the_middle(stage)
    stage.other_engine.say(tokens(again.generation_id, SAID[0]))
    stage.router.route.queue(stage.to(stage.engine))
    stage.other_engine.finish(again.generation_id, reason=chat_pb2.FINISH_REASON_CANCELLED)
    third = await stage.engine.next_start()
    stage.engine.say(tokens(third.generation_id, *SAID))
    stage.engine.finish(third.generation_id, '"b": 2}')
    assert (await reader.completed()).content == TEXT + '"b": 2}'
