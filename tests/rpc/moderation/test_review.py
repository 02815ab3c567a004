"""The review queue of the Moderation process, on a real port, with a real PostgreSQL and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chatmesh.moderation.v1 import late_verdict_pb2, moderation_service_pb2, verdict_pb2
from chatmesh.moderation.v1 import review_service_pb2 as pb
from chatmesh.moderation.v1.moderation_service_pb2_grpc import ModerationServiceStub
from services.moderation.model import Action, Direction
from services.runtime.clock import new_id
from services.runtime.database import Database
from services.runtime.errors import DomainError, Reason
from services.runtime.redis import connect_redis
from tests.rpc.conversation.tcp_proxy import running_proxy
from tests.rpc.moderation.review_stage import (
    Reviewer,
    insert,
    late_verdicts,
    moderation_process,
    read_late,
    reviewing,
    today,
)
from tests.rpc.service_process import ServiceProcess
from tests.store.moderation.events import eventually

ANN = (("x-chatmesh-user", "ann"), ("x-chatmesh-tier", "plus"), ("x-chatmesh-tenant", "acme"))


@pytest.fixture
def moderation(postgres_url: str, redis_url: str) -> Iterator[ServiceProcess]:
    with moderation_process(postgres_url, redis_url) as service:
        yield service


@pytest.fixture
async def rita(moderation: ServiceProcess) -> AsyncIterator[Reviewer]:
    async with reviewing(moderation) as reviewer:
        await eventually(reviewer.answers, "the queue has its tables")
        yield reviewer


@asynccontextmanager
async def refusal(reason: Reason, **metadata: str) -> AsyncIterator[None]:
    with pytest.raises(DomainError) as caught:
        yield
    assert (caught.value.reason, caught.value.metadata) == (reason, metadata)


async def test_an_event_is_shown_with_all_that_is_known_of_it(rita: Reviewer, postgres_url: str) -> None:
    held = today(direction=Direction.OUTPUT, late=True)
    await insert(postgres_url, held)
    shown = await rita.show(held.event_id)
    assert (shown.text, shown.text_kept, shown.text_sha256, shown.text_length) == (
        held.text,
        True,
        held.text_sha256,
        held.text_length,
    )
    assert (shown.generation_id, shown.conversation_id, shown.user_id, shown.tenant_id, shown.tier) == (
        *("g1", "c1", "ann", "acme", "plus"),
    )
    assert (shown.input, shown.late, shown.action, shown.category) == (
        *(False, True, verdict_pb2.ACTION_HOLD, "violence"),
    )
    assert (shown.state, shown.decision, shown.policy_version) == (
        *(pb.EVENT_STATE_PENDING, pb.DECISION_UNSPECIFIED, "p1"),
    )
    assert list(shown.findings) == [
        verdict_pb2.Finding(
            category="violence",
            rule="classifier",
            end=4,
            action=verdict_pb2.ACTION_HOLD,
            layer=verdict_pb2.LAYER_CLASSIFIER,
            score=0.9375,
        )
    ]
    assert shown.create_time.ToDatetime(held.created_at.tzinfo) == held.created_at
    assert not shown.HasField("decide_time")


async def test_lists_in_pages(rita: Reviewer, postgres_url: str) -> None:
    events = [today(after_s=number, category="hate" if number % 2 else "violence") for number in range(7)]
    await insert(postgres_url, *events)
    newest_first = [each.event_id for each in reversed(events)]
    assert await rita.listed() == newest_first
    seen: list[str] = []
    token = ""
    while True:
        page = await rita.page(page_size=3, page_token=token)
        assert not any(listed.text for listed in page.events)
        assert all(listed.text_kept for listed in page.events)
        seen += [listed.event_id for listed in page.events]
        token = page.next_page_token
        if not token:
            break
    assert seen == newest_first
    assert len(await rita.listed(category="hate", state=pb.EVENT_STATE_PENDING)) == 3
    assert await rita.listed(state=pb.EVENT_STATE_DECIDED) == []
    foreign = (await rita.page(page_size=3)).next_page_token
    async with refusal(Reason.INVALID_PAGE_TOKEN, page_token=foreign[:64]):
        await rita.page(page_size=3, page_token=foreign, category="hate")
    async with refusal(Reason.INVALID_PAGE_TOKEN, page_token="none"):
        await rita.page(page_token="none")


async def test_reviewers_who_ask_at_once_get_different_events(rita: Reviewer, postgres_url: str) -> None:
    events = [today(after_s=number) for number in range(6)]
    await insert(postgres_url, *events)
    claims = await asyncio.gather(*(rita.named(f"r{number}").claim() for number in range(6)))
    assert {claim.event_id for claim in claims} == {each.event_id for each in events}
    assert all(claim.text and claim.state == pb.EVENT_STATE_CLAIMED for claim in claims)
    async with refusal(Reason.EVENT_NOT_FOUND, event_id=""):
        await rita.claim()


async def test_a_claim_that_is_over_is_anybodys(rita: Reviewer, postgres_url: str) -> None:
    held = today()
    await insert(postgres_url, held)
    sam = rita.named("sam")
    await rita.claim(held.event_id, lease_s=2)
    async with refusal(Reason.WRONG_EVENT_STATE, event_id=held.event_id, state="claimed", claimed_by="rita"):
        await sam.claim(held.event_id)

    async def free() -> bool:
        return await rita.listed(state=pb.EVENT_STATE_PENDING) == [held.event_id]

    await eventually(free, "the claim is over")
    assert (await sam.claim()).claimed_by == "sam"
    async with refusal(Reason.WRONG_EVENT_STATE, event_id=held.event_id, state="claimed", claimed_by="sam"):
        await rita.decide(held.event_id, pb.DECISION_UPHOLD)


async def test_what_makes_no_sense_is_refused(rita: Reviewer, postgres_url: str) -> None:
    held = today()
    await insert(postgres_url, held)
    unknown = new_id()
    await rita.claim(held.event_id)
    calls: list[tuple[Any, str]] = [
        (rita.decide(held.event_id, pb.DECISION_UNSPECIFIED), "decision"),
        (rita.decide("none", pb.DECISION_UPHOLD), "event_id"),
        (rita.named("").page(), "reviewer"),
        (rita.claim(lease_s=-1), "lease_seconds"),
        (rita.appeal(held.event_id, user="ann", words=""), "appeal"),
        (rita.page(page_size=201), "page_size"),
    ]
    for call, field in calls:
        with pytest.raises(DomainError) as caught:
            await call
        assert caught.value.reason is Reason.INVALID_FIELD
        assert [violation.field for violation in caught.value.fields] == [field]
    for call in (
        rita.show(unknown),
        rita.claim(unknown),
        rita.release(unknown),
        rita.decide(unknown, pb.DECISION_UPHOLD),
        rita.appeal(unknown, user="ann"),
        rita.audit(unknown),
    ):
        async with refusal(Reason.EVENT_NOT_FOUND, event_id=unknown):
            await call


async def test_an_appeal_comes_first_and_once(rita: Reviewer, postgres_url: str) -> None:
    shut, held = today(pending=False), today(after_s=-60)
    await insert(postgres_url, shut, held)
    async with refusal(Reason.EVENT_NOT_FOUND, event_id=shut.event_id):
        await rita.appeal(shut.event_id, user="bob")
    appealed = await rita.appeal(shut.event_id, user="ann")
    assert (appealed.state, appealed.appeal, appealed.text) == (pb.EVENT_STATE_PENDING, "it was a joke", "")
    assert appealed.HasField("appeal_time")
    async with refusal(Reason.WRONG_EVENT_STATE, event_id=shut.event_id, state="pending"):
        await rita.appeal(shut.event_id, user="ann")
    assert await rita.listed(appealed=True) == [shut.event_id]
    assert (await rita.claim()).event_id == shut.event_id
    assert (await rita.claim()).event_id == held.event_id


async def test_the_audit_has_everything(rita: Reviewer, postgres_url: str) -> None:
    held = today()
    await insert(postgres_url, held)
    await rita.show(held.event_id)
    await rita.named("sam").claim()
    await rita.named("sam").release(held.event_id)
    await rita.appeal(held.event_id, user="ann")
    await rita.claim(held.event_id)
    await rita.decide(held.event_id, pb.DECISION_UPHOLD)
    await rita.named("tom").export()
    assert await rita.audit(held.event_id) == [
        ("rita", "view"),
        ("sam", "claim"),
        ("sam", "release"),
        ("ann", "appeal"),
        ("rita", "claim"),
        ("rita", "decide"),
        ("tom", "export"),
    ]


async def test_decisions_become_training_data(rita: Reviewer, postgres_url: str) -> None:
    cases = [
        (today(category="violence"), pb.DECISION_UPHOLD, "", ("unsafe", "violence", "input", "harm")),
        (today(category="jailbreak"), pb.DECISION_OVERTURN, "", ("safe", "jailbreak", "input", "attack")),
        (today(category="pii"), pb.DECISION_OVERTURN, "", ("safe", "pii", "input", "pii")),
        (today(category="hate"), pb.DECISION_UPHOLD, "secrets", ("unsafe", "secrets", "input", "pii")),
        (
            today(category="hate", direction=Direction.OUTPUT),
            pb.DECISION_UPHOLD,
            "",
            ("unsafe", "hate", "output", "harm_output"),
        ),
    ]
    large = [today(text="x" * 900_000) for _ in range(3)]
    await insert(postgres_url, *(each for each, *_ in cases), *large, today(text=None))
    for each, decision, category, _ in cases:
        await rita.claim(each.event_id)
        await rita.decide(each.event_id, decision, category=category, comment="seen")
    before_large = await rita.export()
    assert [row.id for row in before_large] == [each.event_id for each, *_ in cases], "oldest decision first"
    assert [(row.label, *row.categories, row.kind, row.head) for row in before_large] == [told for *_, told in cases]
    assert {row.text for row in before_large} == {cases[0][0].text}
    last = (await rita.show(cases[-1][0].event_id)).decide_time
    assert [row.id for row in await rita.export(since=last)] == [cases[-1][0].event_id]
    for each in large:
        await rita.claim(each.event_id)
        await rita.decide(each.event_id, pb.DECISION_OVERTURN)
    rows = await rita.export()
    assert [len(row.text) for row in rows[-3:]] == [900_000] * 3
    assert len(rows) == len(cases) + 3


async def test_what_was_held_is_given_back_or_refused(rita: Reviewer, postgres_url: str, redis_url: str) -> None:
    blocked = today(direction=Direction.OUTPUT, action=Action.BLOCK, generation="g7")
    right, wrong = today(action=Action.BLOCK, generation="g8"), today(generation="g9")
    await insert(postgres_url, blocked, right, wrong)
    for each, decision in (
        (blocked, pb.DECISION_OVERTURN),
        # Of what was refused already nobody has to be told.
        (right, pb.DECISION_UPHOLD),
        (wrong, pb.DECISION_UPHOLD),
    ):
        await rita.claim(each.event_id)
        await rita.decide(each.event_id, decision)

    async def told() -> bool:
        return len(await late_verdicts(redis_url)) > 1

    await eventually(told, "the verdicts are published")
    said: dict[str, Any] = {"user_id": "ann", "category": "violence", "policy_version": "p1"}
    assert sorted(await late_verdicts(redis_url), key=lambda verdict: verdict.generation_id) == [
        late_verdict_pb2.LateVerdict(
            generation_id="g7",
            action=late_verdict_pb2.LATE_ACTION_RESTORE,
            text=blocked.text,
            event_id=blocked.event_id,
            **said,
        ),
        late_verdict_pb2.LateVerdict(
            generation_id="g9",
            action=late_verdict_pb2.LATE_ACTION_RETRACT,
            input=True,
            replacement="[removed after review]",
            event_id=wrong.event_id,
            **said,
        ),
    ]


async def test_a_decision_while_redis_is_away_is_published_later(postgres_url: str, redis_url: str) -> None:
    held = today()
    await insert(postgres_url, held)
    async with running_proxy(Path(redis_url.removeprefix("unix://"))) as proxy, connect_redis(redis_url) as redis:
        await proxy.down()
        with moderation_process(postgres_url, f"redis://127.0.0.1:{proxy.port}") as service:
            async with reviewing(service) as rita:
                await eventually(rita.answers, "the queue needs no Redis")
                await rita.claim(held.event_id)
                decided = await rita.decide(held.event_id, pb.DECISION_OVERTURN)
                assert decided.state == pb.EVENT_STATE_DECIDED

                async def noticed() -> bool:
                    return bool(service.logged("decisions are not published yet"))

                await eventually(noticed, "it is noticed")
                assert await read_late(redis) == []
                await proxy.up()

                async def told() -> bool:
                    return bool(await read_late(redis))

                await eventually(told, "the verdict is published")
                assert [verdict.event_id for verdict in await read_late(redis)] == [held.event_id]


async def refused_input(service: ServiceProcess, generation_id: str) -> str:
    """Send what the policy blocks, as ann; the id of the event."""
    request = moderation_service_pb2.CheckInputRequest(
        generation_id=generation_id, conversation_id="c1", texts=["say CHATMESH-TEST-BLOCK-7f3a"]
    )
    async with grpc.aio.insecure_channel(service.address()) as channel:
        verdict = (await ModerationServiceStub(channel).CheckInput(request, metadata=ANN, timeout=20)).verdict
    assert verdict.action == verdict_pb2.ACTION_BLOCK
    assert verdict.event_id
    return verdict.event_id


async def test_what_is_refused_is_written_down(rita: Reviewer, moderation: ServiceProcess) -> None:
    event_id = await refused_input(moderation, "g1")

    async def recorded() -> bool:
        return await rita.listed(generation_id="g1") == [event_id]

    await eventually(recorded, "the event is recorded")
    shown = await rita.show(event_id)
    assert (shown.user_id, shown.tier, shown.tenant_id, shown.conversation_id) == ("ann", "plus", "acme", "c1")
    assert (shown.input, shown.action, shown.category) == (True, verdict_pb2.ACTION_BLOCK, "test")
    (found,) = shown.findings
    assert (found.rule, found.start, found.end) == ("test_block", 4, 28)
    assert shown.text_sha256 == sha256(b"say CHATMESH-TEST-BLOCK-7f3a").hexdigest()
    assert (await rita.appeal(event_id, user="ann")).appeal == "it was a joke"


async def test_what_was_refused_just_before_the_end_is_written_down(postgres_url: str, redis_url: str) -> None:
    with moderation_process(postgres_url, redis_url) as service:
        async with reviewing(service) as rita:
            await eventually(rita.answers, "the queue has its tables")
        events = {await refused_input(service, f"g{number}") for number in range(5)}
        assert await asyncio.to_thread(service.stop) == 0
    async with Database(postgres_url) as database:
        assert {row[0] for row in await database.statement("SELECT id::TEXT FROM moderation.events")} == events


async def test_checks_need_no_database_and_reviewers_wait_for_it(postgres_url: str, redis_url: str) -> None:
    parts = urlsplit(postgres_url)
    (folder,) = parse_qs(parts.query)["host"]
    async with running_proxy(Path(folder) / ".s.PGSQL.5432") as proxy:
        await proxy.down()
        url = f"postgresql://{parts.username}@127.0.0.1:{proxy.port}{parts.path}"
        with moderation_process(url, redis_url) as service:
            async with grpc.aio.insecure_channel(service.address()) as channel, reviewing(service) as rita:
                health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
                assert health.status == health_pb2.HealthCheckResponse.SERVING
                checks = ModerationServiceStub(channel)
                request = moderation_service_pb2.CheckInputRequest(generation_id="g", texts=["Hello, how are you?"])
                assert (await checks.CheckInput(request)).verdict.action == verdict_pb2.ACTION_ALLOW
                async with refusal(Reason.DEPENDENCY_UNAVAILABLE, service="database"):
                    await rita.page()
                event_id = await refused_input(service, "g1")
                await proxy.up()
                await eventually(rita.answers, "the tables are made")

                async def recorded() -> bool:
                    return await rita.listed() == [event_id]

                await eventually(recorded, "what came before them is recorded")
                await proxy.down()
                async with refusal(Reason.DEPENDENCY_UNAVAILABLE, service="database"):
                    await rita.claim()
                assert (await checks.CheckInput(request)).verdict.action == verdict_pb2.ACTION_ALLOW
                await proxy.up()
                await eventually(rita.answers, "the database is back")


async def test_who_is_forgotten_leaves_no_event(moderation: ServiceProcess, rita: Reviewer, postgres_url: str) -> None:
    mine, others = today(), today(user="somebody-else")
    await insert(postgres_url, mine, others)
    metadata = (("x-chatmesh-user", mine.subject.user_id),)
    response = await rita.stub.ForgetUser(pb.ForgetUserRequest(), metadata=metadata, timeout=20)
    assert response.events == 1
    async with refusal(Reason.EVENT_NOT_FOUND, event_id=mine.event_id):
        await rita.show(mine.event_id)
    assert (await rita.show(others.event_id)).event_id == others.event_id
