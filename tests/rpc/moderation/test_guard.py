"""The guard model of the Moderation process, on real ports, with a real PostgreSQL and a real Redis."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chatmesh.inference.v1 import generation_pb2
from chatmesh.moderation.v1 import late_verdict_pb2, verdict_pb2
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import DomainError, Reason
from tests.rpc.conversation.tcp_proxy import running_proxy
from tests.rpc.moderation.guard_stage import POLICY, GuardStage, guard_layer, guard_stage
from tests.rpc.moderation.review_stage import Reviewer, late_verdicts, reviewing
from tests.rpc.service_process import ServiceProcess
from tests.store.moderation.events import eventually


@pytest.fixture
async def stage(postgres_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[GuardStage]:
    async with guard_stage(postgres_url, redis_url, tmp_path) as stage:
        yield stage


async def test_an_answer_that_was_shown_is_taken_back(stage: GuardStage) -> None:
    stage.write_policy(background=1.0)
    async with stage.process() as asked, reviewing(asked.service) as rita:
        await eventually(rita.answers, "the queue has its tables")
        assert (await asked.check("what now, key-1234?")).action == verdict_pb2.ACTION_REDACT
        start = await stage.reply("safe")
        assert [m.content for m in start.messages] == ["what now, [key]?"]
        assert start.priority == generation_pb2.PRIORITY_BACKGROUND
        assert (await asked.answer("do this with key-5678, then that")).action == verdict_pb2.ACTION_REDACT
        start = await stage.reply("unsafe\nS1")
        assert [(m.role, m.content) for m in start.messages] == [
            (chat_pb2.ROLE_USER, "what now, [key]?"),
            (chat_pb2.ROLE_ASSISTANT, "do this with [key], then that"),
        ]
        assert [request.background for request in stage.router.requests] == [True, True]
        assert {metadata["x-chatmesh-residency"] for metadata in stage.router.metadata} == {"eu"}
        await stage.jobs_are_gone()
        assert not await stage.redis_holds("do this", "what now", "then that")
        (verdict,) = await late_verdicts(stage.redis_url)
        listed = await eventually_listed(rita)
        assert verdict == late_verdict_pb2.LateVerdict(
            generation_id="g",
            user_id="ann",
            action=late_verdict_pb2.LATE_ACTION_RETRACT,
            input=False,
            category="violence",
            replacement="[taken back]",
            event_id=listed,
            policy_version="guarded",
        )
        event = await rita.show(listed)
        assert (event.late, event.input, event.action) == (True, False, verdict_pb2.ACTION_HOLD)
        assert event.text == "do this with [key], then that"
        assert [(found.rule, found.layer) for found in event.findings] == [("guard/S1", verdict_pb2.LAYER_GUARD)]
        assert await asked.counted("guard_retracted", category="violence", direction="output") == 1
        assert await asked.counted("guard_offered") == 2
    # Nothing of what was said is in the log.
    assert not any("do this" in line or "what now" in line for line in asked.service.text)


async def eventually_listed(rita: Reviewer) -> str:
    """The one late event. Events are written beside everything else."""

    async def late() -> list[str]:
        return [event.event_id for event in (await rita.page()).events if event.late]

    await eventually(late, "the event is written")
    (event_id,) = await late()
    return event_id


async def test_a_question_that_passed_is_taken_back(stage: GuardStage) -> None:
    stage.write_policy(background=1.0)
    async with stage.process() as asked:
        await asked.check("where does she live?")
        await stage.reply("unsafe\nS1")
        await stage.jobs_are_gone()
    (verdict,) = await late_verdicts(stage.redis_url)
    assert (verdict.input, verdict.category, verdict.replacement) == (True, "violence", "[taken back]")


async def test_what_is_only_warned_of_stays(stage: GuardStage) -> None:
    stage.write_policy(background=1.0)
    async with stage.process() as asked, reviewing(asked.service) as rita:
        await eventually(rita.answers, "the queue has its tables")
        await asked.answer("it is no use")
        await stage.reply("unsafe\nS11")
        await stage.jobs_are_gone()
        event = await rita.show(await eventually_listed(rita))
        assert (event.action, event.category) == (verdict_pb2.ACTION_WARN, "self-harm")
    assert await late_verdicts(stage.redis_url) == []


async def test_what_the_guard_has_seen_before_it_passed_is_not_shown_to_it_again(stage: GuardStage) -> None:
    stage.write_policy(unsure=0.0, background=1.0)
    async with stage.process() as asked:
        async with asyncio.TaskGroup() as group:
            group.create_task(asked.check("how are you?"))
            group.create_task(stage.reply("safe"))
        await asked.answer("well")
        # The next that it sees is the answer.
        start = await stage.reply("safe")
        assert [m.content for m in start.messages] == ["how are you?", "well"]
        await stage.jobs_are_gone()


async def test_a_guard_that_is_slow_is_not_waited_for(stage: GuardStage) -> None:
    stage.write_policy(unsure=0.0, ms=100)
    async with stage.process() as asked:
        verdict = await asked.check("how are you?")
        assert verdict.action == verdict_pb2.ACTION_ALLOW
        assert guard_layer(verdict).unchecked
        start = await stage.engine.next_start()
        await stage.engine.was_cancelled(start.generation_id)
        assert await asked.counted("guard_verdicts", verdict="late") == 1


async def test_a_text_waits_for_a_guard_that_is_away(stage: GuardStage) -> None:
    stage.write_policy(background=1.0)
    # More than one call tries.
    stage.router.refusals = [DomainError(Reason.NO_REPLICA, "None.")] * 4
    async with stage.process() as asked:
        await asked.answer("do this")
        await stage.reply("unsafe\nS1")
        await stage.jobs_are_gone()
        assert await asked.counted("guard_verdicts", verdict="away") == 1
    assert len(await late_verdicts(stage.redis_url)) == 1


async def test_a_redis_that_is_away_when_something_is_found(stage: GuardStage) -> None:
    stage.write_policy(background=1.0)
    async with (
        running_proxy(Path(urlsplit(stage.redis_url).path)) as proxy,
        stage.process(redis_url=f"redis://127.0.0.1:{proxy.port}/0") as asked,
    ):
        await asked.answer("do this")
        start = await stage.engine.next_start()
        await proxy.down()
        stage.engine.finish(start.generation_id, "unsafe\nS1")

        async def waits() -> bool:
            return bool(asked.service.logged("a late verdict waits"))

        await eventually(waits, "it cannot be published")
        assert await late_verdicts(stage.redis_url) == []
        await proxy.up()
        await stage.jobs_are_gone()
        (verdict,) = await late_verdicts(stage.redis_url)
        assert verdict.category == "violence"


async def test_what_a_killed_process_had_in_its_hands_is_judged_by_another(stage: GuardStage) -> None:
    stage.write_policy(background=1.0)
    async with stage.process() as asked:
        await asked.answer("do this")
        first = await stage.engine.next_start()
        assert await stage.redis_holds("do this")
        asked.service.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(asked.service.wait)
    assert await late_verdicts(stage.redis_url) == []
    async with stage.process():
        start = await stage.reply("unsafe\nS1")
        assert start.generation_id != first.generation_id
        assert start.messages == first.messages
        await stage.jobs_are_gone()
    assert not await stage.redis_holds("do this")
    (verdict,) = await late_verdicts(stage.redis_url)
    assert verdict.generation_id == "g"


def test_a_guard_needs_a_router(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(unsure=1.0, background=0.0, ms=100, template="yes_no"))
    service = ServiceProcess("moderation", {"CHATMESH_POLICY_FILE": str(path)} | STORES, "--check-config")
    assert service.wait() == 2
    assert "the model guard-model runs; set CHATMESH_ROUTER_ADDRESS" in "".join(service.text)
    assert service.process.stdout is not None
    service.process.stdout.close()


STORES = {"CHATMESH_DATABASE_URL": "postgresql://127.0.0.1/none", "CHATMESH_REDIS_URL": "redis://127.0.0.1"}
