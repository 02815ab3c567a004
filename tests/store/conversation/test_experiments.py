"""What is recorded of experiments and shadows, and what one query makes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from services.conversation.chat_model import FinishReason, TokenUsage
from services.conversation.experiment_store import ExperimentStore, Exposure, ShadowRun
from services.conversation.model import MessageStatus, Outcome
from services.conversation.route_model import ExperimentArm, RouteReceipt
from services.runtime.clock import new_id
from services.runtime.database import Database
from tests.store.conversation.chats import Chat, outcome
from tests.store.conversation.seeding import HandClock, conversation_database

ROUTE = RouteReceipt("auto", "m", "synthetic", "r1", "only")


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with conversation_database(postgres_url) as opened:
        yield opened


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(database: Database, clock: HandClock) -> ExperimentStore:
    return ExperimentStore(database=database, clock=clock)


async def answer(
    chat: Chat, clock: HandClock, *arms: tuple[str, str], seconds: float, result: Outcome | None = None
) -> str:
    """A turn that was answered in these arms, after so many seconds; the answer's id."""
    turn = await chat.open()
    clock.time += timedelta(seconds=seconds)
    route = replace(
        ROUTE,
        experiments=tuple(ExperimentArm(*arm) for arm in arms),
        first_token_ms=seconds * 100,
        cost_nano_usd=int(seconds * 1000),
    )
    for _ in range(2):
        # Also when its first reply is lost.
        await chat.turns.finish_turn(turn, result or outcome(), model="m", route=route, last_seq=3)
    return turn.answer_id


async def test_arms_are_compared_by_feedback_and_latency(
    database: Database, clock: HandClock, store: ExperimentStore
) -> None:
    alice = await Chat(database, clock=clock).create()
    bob = await Chat(database, clock=clock, user="bob").create()
    failed = Outcome(MessageStatus.FAILED, FinishReason.ERROR, "", TokenUsage(10, 0, 0))
    for seconds, rating in ((1, "up"), (3, "down")):
        message_id = await answer(alice, clock, ("e", "a"), ("other", "x"), seconds=seconds)
        await database.statement(
            "INSERT INTO conversation.feedback VALUES (%(chat)s, %(id)s, %(rating)s, '', '', now())",
            {"chat": alice.id, "id": message_id, "rating": rating},
        )
    await answer(bob, clock, ("e", "a"), seconds=5, result=failed)
    await answer(bob, clock, ("e", "b"), seconds=7)
    await answer(bob, clock, seconds=9)
    a, b = await store.results(experiment="e", since=None)
    assert (a.arm, a.users, a.generations, a.failed, a.rated, a.rated_up) == ("a", 2, 3, 1, 2, 1)
    assert (round(a.duration_p50_ms, -2), a.first_token_p50_ms) == (3000, 300)
    assert (a.completion_tokens, a.cost_nano_usd) == (2, 3000)
    assert (b.arm, b.users, b.generations, round(b.duration_p99_ms, -2)) == ("b", 1, 1, 7000)
    [other] = await store.results(experiment="other", since=None)
    assert (other.arm, other.generations) == ("x", 2)
    assert await store.results(experiment="unknown", since=None) == []
    recent = await store.results(experiment="e", since=clock.now() - timedelta(seconds=10))
    assert [arm.arm for arm in recent] == ["b"]


async def test_what_had_no_token_makes_no_arm_look_fast(store: ExperimentStore) -> None:
    for number, first_token_ms in enumerate([0.0, 0.0, 0.0, 40.0]):
        status = "completed" if first_token_ms else "failed"
        await store.record(Exposure(new_id(), "alice", (("e", "a"),), status, first_token_ms, number, 0, None))
    [arm] = await store.results(experiment="e", since=None)
    assert (arm.generations, arm.failed, arm.first_token_p50_ms, arm.first_token_p99_ms) == (4, 3, 40.0, 40.0)
    await store.record(Exposure(new_id(), "alice", (("f", "a"),), "failed", 0.0, 1.0, 0, None))
    [arm] = await store.results(experiment="f", since=None)
    assert (arm.failed, arm.first_token_p50_ms) == (1, 0)


async def test_an_answer_of_no_conversation_counts_once(store: ExperimentStore) -> None:
    exposure = Exposure(
        generation_id=new_id(),
        user_id="alice",
        arms=(("e", "a"), ("f", "b")),
        status="completed",
        first_token_ms=1.0,
        duration_ms=2.0,
        completion_tokens=3,
        cost_nano_usd=None,
    )
    await store.record(exposure)
    await store.record(exposure)
    for experiment in ("e", "f"):
        [arm] = await store.results(experiment=experiment, since=None)
        assert (arm.generations, arm.cost_nano_usd) == (1, 0)


async def test_a_shadow_is_recorded_once(database: Database, store: ExperimentStore) -> None:
    run = ShadowRun("s", new_id(), "large", "r1", FinishReason.STOP, "", TokenUsage(10, 5, 0), 1.0, 2.0)
    await store.record_shadow(run)
    await store.record_shadow(run)
    assert await database.statement("SELECT name, completion_tokens FROM conversation.shadow_runs") == [("s", 5)]
