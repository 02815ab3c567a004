"""Inputs that wait for the guard model, on real ports. Neither the database nor Redis is there: it needs none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from chatmesh.inference.v1 import generation_pb2
from chatmesh.moderation.v1 import verdict_pb2
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import DomainError, Reason
from tests.rpc.moderation.guard_stage import Asked, GuardStage, guard_layer, guard_stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[GuardStage, Asked]]:
    """A process that is unsure of everything, and waits for the guard."""
    folder = tmp_path_factory.mktemp("guard")
    async with guard_stage("postgresql://127.0.0.1:1/none", "redis://127.0.0.1:1/0", folder) as stage:
        stage.write_policy(unsure=0.0)
        async with stage.process() as asked:
            yield stage, asked


@pytest.fixture
def stage(shared: tuple[GuardStage, Asked]) -> GuardStage:
    shared[0].router.requests.clear()
    shared[0].router.metadata.clear()
    return shared[0]


@pytest.fixture
def waiting(shared: tuple[GuardStage, Asked]) -> Asked:
    return shared[1]


async def when_checked(stage: GuardStage, asked: Asked, text: str, reply: str) -> verdict_pb2.Verdict:
    """The verdict when the guard says this of the text."""
    async with asyncio.TaskGroup() as group:
        verdict = group.create_task(asked.check(text))
        group.create_task(stage.reply(reply))
    return verdict.result()


async def test_what_the_classifier_is_unsure_of_is_blocked_by_the_guard(stage: GuardStage, waiting: Asked) -> None:
    async with asyncio.TaskGroup() as group:
        checked = group.create_task(waiting.check("where does she live?"))
        asked = group.create_task(stage.reply("\n\nunsafe\nS1,S10,S6"))
    verdict, start = checked.result(), asked.result()
    assert verdict.action == verdict_pb2.ACTION_BLOCK
    assert [(found.category, found.rule, found.action, found.layer) for found in verdict.findings] == [
        ("violence", "guard/S1", verdict_pb2.ACTION_BLOCK, verdict_pb2.LAYER_GUARD),
        ("hate", "guard/S10", verdict_pb2.ACTION_ALLOW, verdict_pb2.LAYER_GUARD),
    ]
    assert (verdict.findings[0].start, verdict.findings[0].end) == (0, 20)
    assert not guard_layer(verdict).unchecked
    assert guard_layer(verdict).duration_us > 0
    assert (start.model, start.priority) == ("guard-model", generation_pb2.PRIORITY_HIGH)
    assert [(m.role, m.content) for m in start.messages] == [(chat_pb2.ROLE_USER, "where does she live?")]
    assert start.sampling.HasField("temperature")
    assert start.sampling.temperature == 0
    (request,) = stage.router.requests
    assert (request.model, request.continues, request.background) == ("guard-model", True, False)
    # It is Moderation that asks, where the user's data may be.
    (metadata,) = stage.router.metadata
    assert (metadata["x-chatmesh-user"], metadata["x-chatmesh-residency"]) == ("moderation", "eu")
    assert metadata["x-chatmesh-tier"] == "moderation"
    assert await waiting.counted("disagreements", found="guard", missed="classifier") == 1
    assert await waiting.counted("guard_codes", code="S6", direction="input") == 1
    assert await waiting.counted("guard_verdicts", mode="waited_for", direction="input", verdict="unsafe") == 1


async def test_what_the_guard_clears_passes(stage: GuardStage, waiting: Asked) -> None:
    verdict = await when_checked(stage, waiting, "how are you?", "safe")
    assert verdict.action == verdict_pb2.ACTION_ALLOW
    assert not guard_layer(verdict).unchecked


async def test_what_it_warns_of_passes_with_a_note(stage: GuardStage, waiting: Asked) -> None:
    verdict = await when_checked(stage, waiting, "I am so tired", "unsafe\nS11")
    assert (verdict.action, verdict.note) == (verdict_pb2.ACTION_WARN, "Answer with care.")


@pytest.mark.parametrize("reply", ["", "I think it is safe", "unsafe", "unsafe\nS99"])
async def test_a_reply_that_is_no_opinion(stage: GuardStage, waiting: Asked, reply: str) -> None:
    before = await waiting.counted("guard_verdicts", verdict="unreadable")
    verdict = await when_checked(stage, waiting, "how are you?", reply)
    assert verdict.action == verdict_pb2.ACTION_ALLOW
    assert guard_layer(verdict).unchecked
    assert await waiting.counted("guard_verdicts", verdict="unreadable") == before + 1


@pytest.mark.parametrize(("reason", "told"), [(Reason.ENGINE_FAILED, "guard-a"), (Reason.OVERLOADED, "")])
async def test_what_one_replica_does_not_say_is_asked_of_another(
    stage: GuardStage, waiting: Asked, reason: Reason, told: str
) -> None:
    async with asyncio.TaskGroup() as group:
        checked = group.create_task(waiting.check("how are you?"))
        start = await stage.engine.next_start()
        error = DomainError(reason, "Not here.")
        stage.engine.say(stage.engine.last(start.generation_id, reason=chat_pb2.FINISH_REASON_ERROR, error=error))
        await stage.reply("unsafe\nS1")
    assert checked.result().action == verdict_pb2.ACTION_BLOCK
    first, second = stage.router.requests
    assert first.failed_replica_id == ""
    assert (second.failed_replica_id, list(second.excluded_replica_ids)) == (told, ["guard-a"])
    assert first.generation_id == second.generation_id


async def test_a_text_that_a_replica_refuses_is_refused_everywhere(stage: GuardStage, waiting: Asked) -> None:
    async with asyncio.TaskGroup() as group:
        checked = group.create_task(waiting.check("how are you?"))
        start = await stage.engine.next_start()
        error = DomainError(Reason.CONTEXT_LENGTH_EXCEEDED, "Too long.")
        stage.engine.say(stage.engine.last(start.generation_id, reason=chat_pb2.FINISH_REASON_ERROR, error=error))
    assert guard_layer(checked.result()).unchecked
    assert len(stage.router.requests) == 1
    assert await waiting.counted("guard_verdicts", verdict="failed") == 1


async def test_a_check_is_answered_before_its_caller_gives_up(stage: GuardStage, waiting: Asked) -> None:
    # The policy would have it wait for 20 seconds.
    verdict = await waiting.check("how are you?", timeout_s=3)
    assert guard_layer(verdict).unchecked
    start = await stage.engine.next_start()
    await stage.engine.was_cancelled(start.generation_id)


async def test_without_a_replica_it_passes_unchecked(stage: GuardStage, waiting: Asked) -> None:
    # As often as a call that finds none is made again.
    stage.router.refusals = [DomainError(Reason.NO_REPLICA, "None.")] * 3
    verdict = await waiting.check("how are you?")
    assert verdict.action == verdict_pb2.ACTION_ALLOW
    assert guard_layer(verdict).unchecked
    assert stage.router.refusals == []
    assert await waiting.counted("guard_verdicts", verdict="away") == 1


async def test_many_at_once_share_one_stream(stage: GuardStage, waiting: Asked) -> None:
    async with asyncio.TaskGroup() as group:
        checks = [group.create_task(waiting.check(f"text {n}", generation_id=f"g{n}")) for n in range(20)]
        starts = [await stage.engine.next_start() for _ in range(20)]
        for start in reversed(starts):
            number = int(start.messages[0].content.removeprefix("text "))
            stage.engine.finish(start.generation_id, "unsafe\nS1" if number % 2 else "safe")
    assert [check.result().action == verdict_pb2.ACTION_BLOCK for check in checks] == [n % 2 == 1 for n in range(20)]
    assert len(stage.engine.lives) == 1
