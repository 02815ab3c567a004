"""Usage as a process, on a real port, with a real Redis and a real PostgreSQL."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chatmesh.type.v1 import chat_pb2
from chatmesh.usage.v1 import rate_limit_pb2 as rls
from chatmesh.usage.v1 import usage_service_pb2 as pb
from chatmesh.usage.v1.usage_service_pb2_grpc import UsageServiceStub
from services.runtime.errors import DomainError, Reason, from_rpc_error
from tests.rpc.service_process import ServiceProcess, running

if TYPE_CHECKING:
    from chatmesh.usage.v1.usage_service_pb2_grpc import UsageServiceAsyncStub

TIERS = """
default: free
tiers:
  free: {requests_per_minute: 3, tokens_per_day: 1000}
  plus: {requests_per_minute: 600, tokens_per_day: 5000}
anonymous: {requests_per_minute: 2}
"""
OK, OVER = rls.RATE_LIMIT_CODE_OK, rls.RATE_LIMIT_CODE_OVER_LIMIT


@contextmanager
def usage_process(**environment: str) -> Iterator[ServiceProcess]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiers.yaml"
        path.write_text(TIERS)
        with running("usage", {"CHATMESH_TIERS_FILE": str(path), **environment}) as service:
            yield service


@pytest.fixture
def usage(postgres_url: str, redis_url: str) -> Iterator[ServiceProcess]:
    with usage_process(CHATMESH_DATABASE_URL=postgres_url, CHATMESH_REDIS_URL=redis_url) as service:
        yield service


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield channel


async def ask(channel: grpc.aio.Channel, **entries: str) -> rls.RateLimitResponse:
    """What Envoy would ask."""
    method = channel.unary_unary(
        "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
        request_serializer=rls.RateLimitRequest.SerializeToString,
        response_deserializer=rls.RateLimitResponse.FromString,
    )
    descriptor = rls.RateLimitDescriptor(
        entries=[rls.RateLimitEntry(key=key, value=value) for key, value in entries.items()]
    )
    return await method(rls.RateLimitRequest(domain="chatmesh", descriptors=[descriptor]), timeout=10)


def caller(user: str, tier: str = "free") -> tuple[tuple[str, str], ...]:
    return (("x-chatmesh-user", user), ("x-chatmesh-tier", tier))


async def acquire(stub: UsageServiceAsyncStub, generation_id: str, tokens: int, *, user: str) -> pb.AcquireResponse:
    try:
        return await stub.Acquire(
            pb.AcquireRequest(generation_id=generation_id, tokens=tokens), metadata=caller(user), timeout=10
        )
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, service="usage") from error


def used(generation_id: str, user: str, tokens: int) -> pb.UsageRecord:
    record = pb.UsageRecord(
        generation_id=generation_id,
        user_id=user,
        conversation_id="c",
        model="small",
        tier="free",
        usage=chat_pb2.TokenUsage(prompt_tokens=tokens - 5, completion_tokens=5),
        finish_reason=chat_pb2.FINISH_REASON_STOP,
    )
    record.end_time.FromDatetime(datetime.now(UTC))
    return record


async def test_envoy_is_told_when_a_user_is_over_the_limit(usage: ServiceProcess) -> None:
    async with connected(usage.address()) as channel:
        answers = [await ask(channel, user="ann", tier="free", surface="native") for _ in range(5)]
        assert [answer.overall_code for answer in answers] == [OK, OK, OK, OVER, OVER]
        assert [answer.statuses[0].limit_remaining for answer in answers] == [2, 1, 0, 0, 0]
        headers = {header.key: header.value for header in answers[-1].response_headers_to_add}
        assert 1 <= int(headers["retry-after"]) <= 20
        assert json.loads(answers[-1].raw_body)["details"][0]["reason"] == "RATE_LIMITED"
        in_openai_form = await ask(channel, user="ann", tier="free", surface="openai")
        assert json.loads(in_openai_form.raw_body)["error"]["code"] == "rate_limit_exceeded"
        assert (await ask(channel, user="bob", tier="free", surface="native")).overall_code == OK
        assert (await ask(channel, user="ann", tier="plus", surface="native")).overall_code == OK


async def test_unknown_tiers_addresses_and_descriptors(usage: ServiceProcess) -> None:
    async with connected(usage.address()) as channel:
        gold = await ask(channel, user="carl", tier="gold")
        assert (gold.statuses[0].current_limit.name, gold.statuses[0].current_limit.requests_per_unit) == ("free", 3)
        codes = [(await ask(channel, remote_address="10.0.0.1")).overall_code for _ in range(3)]
        assert codes == [OK, OK, OVER]
        assert [(await ask(channel, something="else")).overall_code for _ in range(5)] == [OK] * 5


async def test_a_turn_and_the_quota(usage: ServiceProcess) -> None:
    async with connected(usage.address()) as channel:
        stub = UsageServiceStub(channel)
        lease = await acquire(stub, "g1", 600, user="dora")
        assert (lease.granted_tokens, lease.remaining_tokens) == (600, 400)
        assert lease.expire_time.ToDatetime(UTC) > datetime.now(UTC)
        assert (await acquire(stub, "g1", 600, user="dora")).granted_tokens == 600
        assert (await acquire(stub, "g2", 600, user="dora")).granted_tokens == 400
        with pytest.raises(DomainError) as caught:
            await acquire(stub, "g3", 1, user="dora")
        assert caught.value.reason is Reason.QUOTA_EXCEEDED
        assert caught.value.retry_after_s is not None
        assert 0 < caught.value.retry_after_s <= 86_400
        request = pb.SettleRequest(records=[used("g1", "dora", 100), used("g2", "dora", 50)])
        assert (await stub.Settle(request, timeout=10)).recorded == 2
        assert (await stub.Settle(request, timeout=10)).recorded == 0
        report = await stub.GetUsage(pb.GetUsageRequest(), metadata=caller("dora"), timeout=10)
        assert (report.tier, report.tokens_per_day, report.tokens_today) == ("free", 1000, 150)
        (day,) = report.daily
        assert (day.model, day.generations, day.prompt_tokens, day.completion_tokens) == ("small", 2, 140, 10)


async def test_who_calls_is_forgotten(usage: ServiceProcess) -> None:
    async with connected(usage.address()) as channel:
        stub = UsageServiceStub(channel)
        await acquire(stub, "g1", 600, user="erin")
        request = pb.SettleRequest(records=[used("g2", "erin", 50), used("g3", "fred", 50)])
        await stub.Settle(request, timeout=10)
        assert (await stub.ForgetUser(pb.ForgetUserRequest(), metadata=caller("erin"), timeout=10)).records == 1
        # Of the records; what was used and set aside today counts on.
        for name, tokens, days in (("erin", 650, 0), ("fred", 50, 1)):
            report = await stub.GetUsage(pb.GetUsageRequest(), metadata=caller(name), timeout=10)
            assert (report.tokens_today, len(report.daily)) == (tokens, days)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ForgetUser(pb.ForgetUserRequest(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_call_without_identity_is_refused(usage: ServiceProcess) -> None:
    async with connected(usage.address()) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await UsageServiceStub(channel).GetUsage(pb.GetUsageRequest(), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_without_redis_requests_pass_and_the_service_says_so(postgres_url: str) -> None:
    nowhere = "redis://127.0.0.1:1"
    with usage_process(CHATMESH_DATABASE_URL=postgres_url, CHATMESH_REDIS_URL=nowhere) as usage:
        async with connected(usage.address(serving=False)) as channel:
            codes = [(await ask(channel, user="ann", tier="free")).overall_code for _ in range(5)]
            assert codes == [OK] * 5
            assert (await acquire(UsageServiceStub(channel), "g1", 600, user="ann")).granted_tokens == 600
            health = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service="chatmesh.usage.v1.UsageService"), timeout=10
            )
            assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert len(usage.logged("redis does not answer")) == 1


async def test_without_redis_requests_are_refused_where_that_is_the_setting(postgres_url: str) -> None:
    with usage_process(
        CHATMESH_DATABASE_URL=postgres_url,
        CHATMESH_REDIS_URL="redis://127.0.0.1:1",
        CHATMESH_RATE_LIMIT_FAIL_OPEN="false",
        CHATMESH_QUOTA_FAIL_OPEN="false",
    ) as usage:
        async with connected(usage.address(serving=False)) as channel:
            answer = await ask(channel, user="ann", tier="free")
            assert answer.overall_code == OVER
            assert json.loads(answer.raw_body)["details"][0]["reason"] == "DEPENDENCY_UNAVAILABLE"
            with pytest.raises(DomainError) as caught:
                await acquire(UsageServiceStub(channel), "g1", 600, user="ann")
            assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE


def test_settings_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "tiers.yaml"
    path.write_text(TIERS.replace("default: free", "default: none"))
    for environment, message in (
        ({"CHATMESH_DATABASE_URL": "", "CHATMESH_REDIS_URL": "redis://x"}, "CHATMESH_DATABASE_URL"),
        (
            {
                "CHATMESH_DATABASE_URL": "postgresql://x",
                "CHATMESH_REDIS_URL": "redis://x",
                "CHATMESH_TIERS_FILE": str(path),
            },
            "the default tier 'none' is not one of free, plus",
        ),
    ):
        service = ServiceProcess("usage", environment, "--check-config")
        assert service.wait() == 2
        assert message in "".join(service.text)
        assert service.process.stdout is not None
        service.process.stdout.close()
