"""What was used reaches Usage, however often it or this process goes away, and counts once."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from tests.rpc.conversation.conftest import StartStage
from tests.rpc.conversation.scripted import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


def outbox(url: str) -> int:
    with psycopg.connect(url) as connection:
        [[count]] = connection.execute("SELECT count(*) FROM conversation.usage_outbox").fetchall()
        return int(count)


async def test_usage_is_gone_at_the_end_of_a_turn(start_stage: StartStage, postgres_url: str) -> None:
    async with start_stage() as stage:
        user = await stage.user()
        reader, first = await stage.turn(user)
        await stage.usage.stop()
        stage.engine.finish(first.generation_id, "one")
        await reader.completed()
        await eventually(lambda: stage.service.logged("usage is not settled yet"), "the fault bites")
        assert outbox(postgres_url) == 1

        await eventually(lambda: stage.service.logged("not serving"), "the process has noticed")
        await stage.usage.start()
        await stage.serving_again()
        # The next turn's record takes along what stayed behind.
        reader, second = await stage.turn(user)
        stage.engine.finish(second.generation_id, "two")
        await reader.completed()
        await stage.usage.settled(first.generation_id)
        assert [sorted(ids) for ids in stage.usage.settles] == [sorted([first.generation_id, second.generation_id])]
        await eventually(lambda: outbox(postgres_url) == 0, "the outbox is empty")


async def test_the_reply_of_usage_is_lost(start_stage: StartStage, postgres_url: str) -> None:
    async with start_stage() as stage:
        reader, start = await stage.turn(await stage.user())
        stage.usage.lose_replies = 2
        stage.engine.finish(start.generation_id, "one")
        await reader.completed()
        await eventually(lambda: len(stage.usage.settles) == 3, "it is sent until there is a reply")
        await eventually(lambda: outbox(postgres_url) == 0, "the outbox is empty")
        # The ledger of the fake has asserted that each time said the same.
        assert stage.usage.settles == [[start.generation_id]] * 3


async def test_what_stayed_behind_is_sent_by_the_next_life(start_stage: StartStage, postgres_url: str) -> None:
    async with start_stage() as stage:
        reader, start = await stage.turn(await stage.user())
        await stage.usage.stop()
        stage.engine.finish(start.generation_id, "one")
        await reader.completed()
        await eventually(lambda: stage.service.logged("usage is not settled yet"), "the fault bites")
        assert await asyncio.to_thread(stage.service.stop) == 0
        stage.usage.granted.clear()
    assert outbox(postgres_url) == 1
    async with start_stage() as stage:
        # With no turn that would wake it: it looks by itself.
        await stage.usage.settled(start.generation_id)
        await eventually(lambda: outbox(postgres_url) == 0, "the outbox is empty")


async def test_what_is_left_when_the_process_ends_is_sent_first(start_stage: StartStage, postgres_url: str) -> None:
    async with start_stage() as stage:
        reader, start = await stage.turn(await stage.user())
        stage.service.process.terminate()
        stage.engine.finish(start.generation_id, "one")
        await reader.completed()
        assert await asyncio.to_thread(stage.service.wait) == 0
        assert set(stage.usage.ledger) == {start.generation_id}
        assert outbox(postgres_url) == 0
