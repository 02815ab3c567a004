"""The stream to Moderation breaks: every answer that is under way is checked again from its start and shown once."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from chatmesh.conversation.v1 import conversation_pb2
from services.runtime.errors import Reason
from tests.rpc.conversation.scripted import eventually
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import clear, redact, words

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEXT = "one two three four"


@pytest.mark.parametrize("code", [None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
async def test_it_breaks_in_the_middle(stage: Stage, code: grpc.StatusCode | None) -> None:
    stage.moderation.clears = False
    reader, start = await stage.turn(await stage.user())
    id_ = start.generation_id
    stage.engine.say(words(id_, "one two "))
    await stage.moderation.has(id_, "one two ")
    stage.moderation.say(clear(id_, 4))
    await reader.shows("one ")

    lives = len(stage.moderation.lives)
    stage.moderation.break_off(*([] if code is None else [code]))
    await stage.moderation.lives[-1].over.wait()
    # What is written while there is no stream is neither lost nor sent twice.
    stage.engine.say(words(id_, "three "))
    stage.engine.finish(id_, "four")
    await eventually(lambda: len(stage.moderation.lives) > lives, "a new stream")
    await stage.moderation.has(id_, TEXT, complete=True)
    assert reader.text == "one "
    stage.moderation.say(clear(id_, 4))
    stage.moderation.say(clear(id_, len(TEXT), done=True))
    assert (await reader.completed()).content == TEXT


async def test_it_breaks_after_the_last_segment(stage: Stage) -> None:
    stage.moderation.clears = False
    reader, start = await stage.turn(await stage.user())
    id_ = start.generation_id
    stage.engine.finish(id_, TEXT)
    await stage.moderation.has(id_, TEXT, complete=True)
    lives = len(stage.moderation.lives)
    stage.moderation.break_off(grpc.StatusCode.UNAVAILABLE)
    await eventually(lambda: len(stage.moderation.lives) > lives, "a new stream")
    await stage.moderation.has(id_, TEXT, complete=True)
    stage.moderation.say(clear(id_, len(TEXT), done=True))
    assert (await reader.completed()).content == TEXT
    assert reader.kinds.count("delta") == 1


async def test_the_process_goes_and_comes_back(stage: Stage) -> None:
    stage.moderation.clears = False
    turns = [await stage.turn(await stage.user()) for _ in range(2)]
    ids = [start.generation_id for _, start in turns]
    stage.engine.say(*(words(id_, "one two ") for id_ in ids))
    for id_ in ids:
        await stage.moderation.has(id_, "one two ")
    stage.moderation.say(*(clear(id_, 8) for id_ in ids))
    for reader, _ in turns:
        await reader.shows("one two ")

    await stage.moderation.stop()
    stage.engine.say(stage.engine.last(ids[0], "three four"), words(ids[1], "three "))
    stage.moderation.clears = True
    await stage.moderation.start()
    assert (await turns[0][0].completed()).content == TEXT
    await turns[1][0].shows("one two three ")
    stage.engine.finish(ids[1], "four")
    assert (await turns[1][0].completed()).content == TEXT


async def test_what_was_taken_back_stays_so_when_it_is_checked_again(stage: Stage) -> None:
    stage.moderation.clears = False
    user = await stage.user()
    reader, start = await stage.turn(user)
    id_ = start.generation_id
    stage.engine.say(words(id_, "I am Anna B and"))
    await stage.moderation.has(id_, "I am Anna B and")
    stage.moderation.say(clear(id_, 9))
    await reader.shows("I am Anna")
    stage.moderation.say(clear(id_, 15, redact(5, 11, "[name]")))
    await reader.shows("I am [name] and")

    lives = len(stage.moderation.lives)
    stage.moderation.break_off(grpc.StatusCode.UNAVAILABLE)
    await eventually(lambda: len(stage.moderation.lives) > lives, "a new stream")
    stage.engine.finish(id_, " you")
    await stage.moderation.has(id_, "I am Anna B and you", complete=True)
    # The new checker knows nothing of the old one and decides the same again.
    stage.moderation.say(clear(id_, 19, redact(5, 11, "[name]"), done=True))
    assert (await reader.completed()).content == "I am [name] and you"


async def test_it_does_not_come_back(stage: Stage) -> None:
    """The fault bites where the mitigation ends: what nobody checks is not shown."""
    stage.moderation.clears = False
    user = await stage.user()
    reader, start = await stage.turn(user)
    id_ = start.generation_id
    stage.engine.say(words(id_, "one two "))
    await stage.moderation.has(id_, "one two ")
    stage.moderation.say(clear(id_, 4))
    await reader.shows("one ")
    await stage.moderation.stop()
    stage.engine.say(words(id_, "three"))
    try:
        failed = await reader.failed()
    finally:
        await stage.moderation.start()
    assert failed.error.reason == Reason.DEPENDENCY_UNAVAILABLE
    assert failed.error.metadata["service"] == "moderation"
    assert (failed.message.content, failed.message.status) == ("one ", conversation_pb2.MESSAGE_STATUS_FAILED)
    await stage.engine.was_cancelled(id_)
    assert (await stage.usage.settled(id_)).usage.completion_tokens == 3

    # It is back, and so are answers.
    stage.moderation.clears = True
    await stage.serving_again()
    reader, start = await stage.turn(user)
    stage.engine.finish(start.generation_id, "Hi.")
    await reader.completed()


async def test_a_stream_that_was_silent_for_long_and_breaks_is_opened_again(stage: Stage) -> None:
    """How long a stream lived says nothing about how long it has been gone."""
    await stage.end_streams()
    stage.moderation.clears = False
    reader, start = await stage.turn(await stage.user())
    id_ = start.generation_id
    stage.engine.say(words(id_, "one "))
    await stage.moderation.has(id_, "one ")
    # Longer than answers wait for a stream that is gone; time itself is what is tested.
    await asyncio.sleep(5.5)
    lives = len(stage.moderation.lives)
    stage.moderation.break_off(grpc.StatusCode.UNAVAILABLE)
    stage.moderation.clears = True
    stage.engine.finish(id_, "two")
    assert (await reader.completed()).content == "one two"
    assert len(stage.moderation.lives) == lives + 1
