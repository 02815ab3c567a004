"""Several watchers of one generation, here and elsewhere, fast and slow."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
import pytest

from chatmesh.conversation.v1 import generation_service_pb2
from chatmesh.conversation.v1.generation_service_pb2_grpc import GenerationServiceStub
from services.runtime.errors import Reason
from tests.rpc.conversation.conftest import StartStage
from tests.rpc.conversation.script import SCRIPT, TEXT, write, write_out
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import words
from tests.rpc.conversation.user import User

pytestmark = pytest.mark.asyncio(loop_scope="session")

BIG = "x" * 10_000 + " "


async def test_here_and_elsewhere_from_any_position(start_stage: StartStage) -> None:
    async with start_stage() as stage, stage.another() as second:
        user = await stage.user()
        reader, start = await stage.turn(user)
        elsewhere = User.of(user, second.channel)
        watchers = [at.watch(reader.generation_id) for at in (user, elsewhere) for _ in range(2)]
        left = []
        for count in range(len(SCRIPT)):
            write(stage.engine, start, 1, already=count)
            if count % 10 == 3:
                await watchers[-1].until(lambda reader: reader.text, "there is something")
                # Away and back at once, there and here in turn.
                left.append(watchers.pop())
                await left[-1].leave()
                back = (user, elsewhere)[len(left) % 2]
                watchers.insert(0, back.watch(reader.generation_id, before=left[-1]))
        stage.engine.finish(start.generation_id)
        answer = await reader.completed()
        assert answer.content == TEXT
        for watcher in watchers:
            assert await watcher.completed() == answer
            assert watcher.seq == reader.seq


async def test_a_watcher_that_does_not_read_holds_up_nobody(start_stage: StartStage) -> None:
    async with start_stage() as stage, stage.another() as second:
        user = await stage.user()
        reader, _ = await stage.turn(user)
        id_ = reader.generation_id
        slow: list[Any] = []
        request = generation_service_pb2.WatchGenerationRequest(generation_id=id_)
        for channel in (stage.channel, second.channel):
            call: Any = GenerationServiceStub(channel).WatchGeneration(
                request, metadata=(("x-chatmesh-user", user.id),)
            )
            assert (await call.read()).HasField("started")
            slow.append(call)
        watcher = User.of(user, second.channel).watch(id_)
        # Far more than connections hold.
        for _ in range(400):
            stage.engine.say(words(id_, BIG))
        stage.engine.finish(id_)
        answer = await reader.completed()
        assert len(answer.content) == 400 * len(BIG)
        assert await watcher.completed() == answer
        for call in slow:
            # And it gets it all when it reads at last, in fewer events than there were.
            text, events = "", 0
            while (event := await call.read()) is not grpc.aio.EOF:
                text += event.delta.text
                events += 1
            assert text == answer.content
            assert event is grpc.aio.EOF
            assert events < 400


async def test_one_of_another_user_or_of_nobody(stage: Stage) -> None:
    user, other = await stage.user(), await stage.user()
    reader, start = await stage.turn(user)
    for who, id_ in ((other, start.generation_id), (user, str(uuid.uuid4())), (user, "no id")):
        assert (await who.watch(id_).refusal()).reason is Reason.GENERATION_NOT_FOUND
    write_out(stage.engine, start)
    await reader.completed()
