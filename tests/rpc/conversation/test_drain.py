"""SIGTERM: what runs ends in time, and nothing new begins."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from chatmesh.conversation.v1 import generation_event_pb2
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


async def test_what_takes_longer_is_left_open(start_stage: StartStage, postgres_url: str) -> None:
    """Alone, a server that goes has nobody to hand the turn to: it stays open, for the next one."""
    async with start_stage(drain_grace_s=0.3) as stage:
        user = await stage.user()
        reader, start = await stage.turn(user)
        id_ = start.generation_id
        stage.engine.say(words(id_, "one two "))
        await reader.shows("one two ")
        await terminate(stage)
        assert await asyncio.to_thread(stage.service.wait) == 0
        assert id_ in stage.engine.cancelled
        await reader.until(lambda reader: reader.code, "the stream ends")
        assert not reader.ended
        assert stored_answer(postgres_url, id_) == ("", "in_progress")
        assert stage.usage.ledger == {}

        # The next server finds it by itself.
        stage.prepare()
        async with stage.another() as node:
            user.move_to(node.channel)
            again = await stage.engine.next_start()
            assert again.generation_id == f"{id_}.2.1"
            assert [piece.text for piece in again.continuation] == ["one two "]
            watcher = user.watch(id_, before=reader)
            stage.engine.finish(again.generation_id, "three")
            assert (await watcher.completed()).content == "one two three"
            await stage.usage.settled(id_)


async def test_what_takes_longer_is_handed_over_while_its_client_reads_on(start_stage: StartStage) -> None:
    async with start_stage(drain_grace_s=8) as stage, stage.another() as heir:
        await eventually(lambda: stage.service.logged("serving"), "both serve")
        user = await stage.user()
        reader, start = await stage.turn(user)
        id_ = start.generation_id
        stage.engine.say(words(id_, "one two "))
        await reader.shows("one two ")
        stage.prepare()
        await terminate(stage)
        # Not after the lease of a dead server: it says itself that it goes.
        again = await stage.engine.next_start()
        assert again.generation_id == f"{id_}.2.1"
        assert heir.service.logged("took a generation over")
        # Whoever is still connected to the server that goes is told to watch elsewhere, and misses nothing there.
        await reader.until(lambda reader: reader.ended or reader.code, "it is told")
        assert reader.error is not None
        assert reader.error.reason is Reason.DRAINING
        user.move_to(heir.channel)
        watcher = user.watch(id_, before=reader)
        stage.engine.finish(again.generation_id, "three")
        assert (await watcher.completed()).content == "one two three"
        assert watcher.notices == [generation_event_pb2.NOTICE_KIND_OWNER_REPLACED]
        assert {event.epoch for event in watcher.events} == {1, 2}
        await stage.usage.settled(id_)


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
