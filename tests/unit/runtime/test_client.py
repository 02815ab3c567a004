"""Calls to other services against a server that fails as often as it is told to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from chatmesh.router.v1 import router_service_pb2
from chatmesh.router.v1.router_service_pb2_grpc import (
    RouterServiceServicer,
    RouterServiceStub,
    add_RouterServiceServicer_to_server,
)
from services.runtime.client import DEADLINE_MARGIN_S, ChannelPool, call_unary
from services.runtime.errors import DomainError, Reason
from services.runtime.identity import CallScope, Identity, enter_scope
from services.runtime.interceptor import abort
from services.runtime.settings import SettingsError

pytestmark = pytest.mark.asyncio(loop_scope="session")

REQUEST = router_service_pb2.ListModelsRequest()


class Flaky(RouterServiceServicer):
    """Fails with what is queued, then answers. `holds` keeps it from answering."""

    def __init__(self) -> None:
        self.failures: list[grpc.StatusCode | DomainError] = []
        self.holds = False
        self.calls: list[tuple[dict[str, Any], float]] = []
        """Metadata and seconds left, of each call."""

    async def Route(self, request: Any, context: Any) -> Any:
        raise AssertionError("nothing is routed here")

    def WatchFleet(self, request: Any, context: Any) -> Any:
        raise AssertionError("nobody looks at the fleet here")

    async def ListModels(self, request: Any, context: Any) -> router_service_pb2.ListModelsResponse:
        self.calls.append((dict(context.invocation_metadata()), context.time_remaining()))
        if self.holds:
            await asyncio.Event().wait()
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, DomainError):
                await abort(context, failure)
            else:
                await context.abort(failure, "flaky")
        return router_service_pb2.ListModelsResponse()


@pytest.fixture
def flaky() -> Flaky:
    return Flaky()


@pytest_asyncio.fixture(loop_scope="session")
async def stub(flaky: Flaky) -> AsyncIterator[RouterServiceStub]:
    server = grpc.aio.server()
    add_RouterServiceServicer_to_server(flaky, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with ChannelPool() as channels:
        yield RouterServiceStub(channels.channel(f"127.0.0.1:{port}"))
    await server.stop(None)


async def call(stub: Any, *, timeout_s: float = 5.0, idempotent: bool = True, scope: CallScope | None = None) -> None:
    """In a task of its own, so that the scope is nobody else's."""

    async def work() -> None:
        enter_scope(scope or CallScope())
        await call_unary(stub.ListModels, REQUEST, timeout_s=timeout_s, service="router", idempotent=idempotent)

    await asyncio.create_task(work())


async def test_it_is_sent_again_while_the_peer_is_unavailable(stub: Any, flaky: Flaky) -> None:
    flaky.failures = [grpc.StatusCode.UNAVAILABLE] * 2
    await call(stub)
    assert len(flaky.calls) == 3
    # One deadline for all attempts, as far as gRPC's rounding of timeouts on the wire shows it.
    remaining = [left for _, left in flaky.calls]
    assert remaining[-1] < remaining[0] <= 5.1


async def test_not_for_ever(stub: Any, flaky: Flaky) -> None:
    flaky.failures = [grpc.StatusCode.UNAVAILABLE] * 9
    with pytest.raises(DomainError) as failed:
        await call(stub)
    assert failed.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert len(flaky.calls) == 3


async def test_not_what_may_not_be_done_twice(stub: Any, flaky: Flaky) -> None:
    flaky.failures = [grpc.StatusCode.UNAVAILABLE]
    with pytest.raises(DomainError):
        await call(stub, idempotent=False)
    assert len(flaky.calls) == 1


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
    ],
)
async def test_not_after_any_other_failure(stub: Any, flaky: Flaky, code: grpc.StatusCode) -> None:
    flaky.failures = [code]
    with pytest.raises(DomainError):
        await call(stub)
    assert len(flaky.calls) == 1


async def test_the_error_of_the_peer_is_passed_on(stub: Any, flaky: Flaky) -> None:
    flaky.failures = [DomainError(Reason.MODEL_NOT_FOUND, "None.", metadata={"model": "x"})]
    with pytest.raises(DomainError) as failed:
        await call(stub)
    assert (failed.value.reason, failed.value.metadata) == (Reason.MODEL_NOT_FOUND, {"model": "x"})


async def test_a_peer_that_does_not_answer(stub: Any, flaky: Flaky) -> None:
    flaky.holds = True
    started = time.monotonic()
    with pytest.raises(DomainError) as failed:
        await call(stub, timeout_s=0.2)
    assert failed.value.reason is Reason.DEADLINE_EXCEEDED
    assert failed.value.metadata == {"service": "router"}
    assert 0.15 < time.monotonic() - started < 3


async def test_the_callers_deadline_comes_first(stub: Any, flaky: Flaky) -> None:
    await call(stub, scope=CallScope(deadline=time.monotonic() + 1.0))
    assert flaky.calls[0][1] < 1.02 - DEADLINE_MARGIN_S


async def test_no_time_is_left(stub: Any, flaky: Flaky) -> None:
    with pytest.raises(DomainError) as failed:
        await call(stub, scope=CallScope(deadline=time.monotonic() + DEADLINE_MARGIN_S / 2))
    assert failed.value.reason is Reason.DEADLINE_EXCEEDED
    assert flaky.calls == []


async def test_no_retry_begins_that_could_not_end(stub: Any, flaky: Flaky) -> None:
    flaky.failures = [grpc.StatusCode.UNAVAILABLE] * 9
    with pytest.raises(DomainError) as failed:
        await call(stub, timeout_s=0.04)
    assert failed.value.reason in (Reason.DEPENDENCY_UNAVAILABLE, Reason.DEADLINE_EXCEEDED)
    assert len(flaky.calls) <= 1


async def test_who_calls_goes_along(stub: Any, flaky: Flaky) -> None:
    await call(stub, scope=CallScope(identity=Identity("ann", "pro"), request_id="r1"))
    metadata, _ = flaky.calls[0]
    assert (metadata["x-chatmesh-user"], metadata["x-chatmesh-tier"], metadata["x-request-id"]) == ("ann", "pro", "r1")
    assert "x-chatmesh-tenant" not in metadata
    await call(stub, scope=CallScope(identity=Identity("ann", "pro", "eu", "acme")))
    metadata, _ = flaky.calls[1]
    assert (metadata["x-chatmesh-residency"], metadata["x-chatmesh-tenant"]) == ("eu", "acme")
    await call(stub)
    metadata, _ = flaky.calls[2]
    assert not [key for key in metadata if key.startswith("x-")]


async def test_one_channel_per_target() -> None:
    async with ChannelPool() as channels:
        first = channels.channel("127.0.0.1:1")
        assert channels.channel("127.0.0.1:1") is first
        assert channels.channel("127.0.0.1:1,127.0.0.1:2") is not first
        channels.discard("127.0.0.1:1")
        assert channels.channel("127.0.0.1:1") is not first
        with pytest.raises(SettingsError, match="IPv4"):
            channels.channel("one:1,two:2")
