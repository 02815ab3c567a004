"""A request_id that is sent again leads to the same turn, at whatever point of it that happens."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from chatmesh.conversation.v1 import conversation_pb2
from services.runtime.errors import DomainError, Reason
from tests.rpc.conversation.peers import granted
from tests.rpc.conversation.scripted import Held
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import allowed, block, clear, words
from tests.rpc.conversation.test_refusals import BLOCKED, NAMES, NOT_FOUND

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(("who", "reply"), [("route", NOT_FOUND), ("check_input", BLOCKED)])
async def test_while_it_is_prepared_and_then_refused(stage: Stage, who: str, reply: object) -> None:
    user = await stage.user()
    request_id = str(uuid.uuid4())
    held = {name: Held() for name in NAMES}
    stage.prepare("Hello", **held)
    readers = [user.stream(request_id=request_id)]
    async with asyncio.timeout(10):
        await asyncio.gather(*(call.called.wait() for call in held.values()))
        readers += [user.stream(request_id=request_id) for _ in range(3)]
        waiting = asyncio.create_task(user.send(request_id=request_id))
        # This answer comes after the others were received, for a connection keeps their order.
        await user.messages()
        held[who].reply(reply)
        refusals = [await reader.refusal() for reader in readers]
        with pytest.raises(DomainError) as refused:
            await waiting
    assert len({refusal.reason for refusal in [*refusals, refused.value]}) == 1
    assert len(stage.usage.acquire.requests) == 1
    if who == "check_input":
        # The blocked message is stored, and the refusal with it.
        again = await user.stream(request_id=request_id).refusal()
        assert (again.reason, again.metadata) == (refusals[0].reason, refusals[0].metadata)
        assert len(await user.messages()) == 2


async def test_while_it_is_prepared_and_then_answered(stage: Stage) -> None:
    user = await stage.user()
    request_id = str(uuid.uuid4())
    held = Held()
    stage.prepare(acquire=held)
    first = user.stream(request_id=request_id)
    await held.called.wait()
    second = user.stream(request_id=request_id)
    await user.messages()
    held.reply(granted())
    start = await stage.engine.next_start()
    stage.engine.finish(start.generation_id, "Once.")
    assert (await first.completed()) == (await second.completed())
    assert len(await user.messages()) == 2


async def test_while_it_is_streamed(stage: Stage) -> None:
    stage.moderation.clears = False
    user = await stage.user()
    request_id = str(uuid.uuid4())
    first, start = await stage.turn(user, request_id=request_id)
    id_ = start.generation_id
    stage.engine.say(words(id_, "one two "))
    await stage.moderation.has(id_, "one two ")
    stage.moderation.say(clear(id_, 8))
    await first.shows("one two ")

    second = user.stream(request_id=request_id)
    await second.shows("one two ")
    waiting = asyncio.create_task(user.send(request_id=request_id))
    stage.engine.finish(id_, "three")
    await stage.moderation.has(id_, "one two three", complete=True)
    stage.moderation.say(clear(id_, 13, done=True))
    assert (await first.completed()) == (await second.completed()) == (await waiting)
    assert first.events[-1] == second.events[-1]
    assert [event.seq for event in first.events] == [event.seq for event in second.events]


async def test_after_its_end(stage: Stage) -> None:
    user = await stage.user()
    request_id = str(uuid.uuid4())
    first, start = await stage.turn(user, request_id=request_id)
    stage.engine.finish(start.generation_id, "Once.")
    answer = await first.completed()

    again = user.stream(request_id=request_id)
    assert await again.completed() == answer
    assert again.kinds == ["started", "delta", "completed"]
    assert again.events[0].started == first.events[0].started
    assert await user.send(request_id=request_id) == answer
    assert len(stage.usage.acquire.requests) == 1


async def test_after_an_answer_that_was_blocked_in_its_middle(stage: Stage) -> None:
    stage.moderation.clears = False
    user = await stage.user()
    request_id = str(uuid.uuid4())
    first, start = await stage.turn(user, request_id=request_id)
    id_ = start.generation_id
    stage.engine.say(words(id_, "Good bad"))
    await stage.moderation.has(id_, "Good bad")
    stage.moderation.say(clear(id_, 5, block(5, 8)))
    failed = await first.failed()

    again = user.stream(request_id=request_id)
    assert await again.failed() == failed
    assert again.text == "Good "
    assert failed.message.status == conversation_pb2.MESSAGE_STATUS_BLOCKED


async def test_one_that_was_used_for_something_else(stage: Stage) -> None:
    user = await stage.user()
    request_id = str(uuid.uuid4())
    reader, start = await stage.turn(user, request_id=request_id)
    assert (await user.stream("Other", request_id=request_id).refusal()).reason is Reason.REQUEST_ID_REUSED
    stage.engine.finish(start.generation_id, "Once.")
    await reader.completed()
    assert (await user.stream("Other", request_id=request_id).refusal()).reason is Reason.REQUEST_ID_REUSED


async def test_one_of_another_user_means_nothing(stage: Stage) -> None:
    request_id = str(uuid.uuid4())
    answers = []
    for user in (await stage.user(), await stage.user()):
        stage.prepare(check_input=allowed())
        reader = user.stream(request_id=request_id)
        start = await stage.engine.next_start()
        stage.engine.finish(start.generation_id, "Mine.")
        answers.append(await reader.completed())
    assert answers[0].id != answers[1].id
