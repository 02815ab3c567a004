"""Calls to other services: one place for deadlines, identity, trace context, retries and errors.

Methods of stubs are passed to `call_unary` and `open_stream` and never called directly.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from services.runtime.errors import DomainError, Reason, from_rpc_error
from services.runtime.identity import REQUEST_ID_KEY, RESIDENCY_KEY, TENANT_KEY, TIER_KEY, USER_KEY, current_scope
from services.runtime.server import MAX_MESSAGE_BYTES
from services.runtime.settings import SettingsError
from services.runtime.telemetry import TRACEPARENT_KEY, current_traceparent

DEADLINE_MARGIN_S = 0.05
"""Taken off the caller's deadline at each hop, so that the inner error arrives before the outer deadline."""

RETRY_ATTEMPTS = 3
RETRY_BACKOFF_S = 0.05

_OPTIONS = [
    ("grpc.lb_policy_name", "round_robin"),
    # One layer retries, and that is `call_unary`.
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A restarted peer is back within a second; the defaults would leave it alone for up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
Metadata = tuple[tuple[str, str], ...]


class ChannelPool:
    """One channel per target, shared by everything in the process that talks to it.

    A target is `host:port`, several of them with commas between, or any gRPC name such as `dns:///service:port`; calls
    are spread round robin over what it resolves to.
    """

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._closing: set[asyncio.Future[None]] = set()

    def channel(self, target: str) -> grpc.aio.Channel:
        """The channel to a target; it connects by itself when first used."""
        channel = self._channels.get(target)
        if channel is None:
            channel = self._channels[target] = grpc.aio.insecure_channel(_resolvable(target), options=_OPTIONS)
        return channel

    def discard(self, target: str) -> None:
        """Close the channel to a target that is gone; a later `channel` makes a new one."""
        channel = self._channels.pop(target, None)
        if channel is not None:
            closing = asyncio.ensure_future(channel.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels.values()), *self._closing)


async def call_unary(
    method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
    request: RequestT,
    *,
    timeout_s: float,
    service: str,
    idempotent: bool = True,
) -> ResponseT:
    """Call a unary method of another service.

    Args:
        method: The method of an async stub, such as `RouterServiceStub(channel).Route`.
        request: The request message.
        timeout_s: Longest time to wait; less when the inbound call's deadline comes first.
        service: Name of the service for error messages.
        idempotent: Whether it may be sent again when the peer was not available.

    Raises:
        DomainError: The peer's own error, DEPENDENCY_UNAVAILABLE, or DEADLINE_EXCEEDED.
    """
    deadline = time.monotonic() + _timeout_s(timeout_s, service)
    metadata = call_metadata()
    attempt = 1
    while True:
        try:
            return await method(request, timeout=max(0.001, deadline - time.monotonic()), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            wait_s = RETRY_BACKOFF_S * 2**attempt * (0.5 + random.random())
            again = (
                idempotent
                and error.code() is grpc.StatusCode.UNAVAILABLE
                and attempt < RETRY_ATTEMPTS
                and time.monotonic() + wait_s < deadline
            )
            if not again:
                raise from_rpc_error(error, service=service) from error
            attempt += 1
            await asyncio.sleep(wait_s)


def open_stream(
    method: grpc.aio.StreamStreamMultiCallable[RequestT, ResponseT], *, timeout_s: float | None, service: str
) -> grpc.aio.StreamStreamCall[RequestT, ResponseT]:
    """Open a bidirectional stream to another service.

    Args:
        method: The method of an async stub.
        timeout_s: Longest life of the stream; less when the inbound call's deadline comes first. None only for the
            streams that live as long as the two processes.
        service: Name of the service for error messages.
    """
    timeout = None if timeout_s is None else _timeout_s(timeout_s, service)
    return method(timeout=timeout, metadata=call_metadata())


def watch(
    method: grpc.aio.UnaryStreamMultiCallable[RequestT, ResponseT], request: RequestT
) -> grpc.aio.UnaryStreamCall[RequestT, ResponseT]:
    """Open a server stream that lives as long as the two processes, such as a watch of status."""
    return method(request, metadata=call_metadata())


def check_health(channel: grpc.aio.Channel) -> Callable[[], Awaitable[None]]:
    """A check for `Server.add_check`: the peer is there and answers.

    Only that it answers, not that it is SERVING: were health deep over hops, one sick service would take down all
    that stand before it, and with them what they could still do.
    """
    stub: Any = HealthStub(channel)

    async def check() -> None:
        await stub.Check(HealthCheckRequest(), timeout=1.0)

    return check


def call_metadata() -> Metadata:
    """Identity, request id and trace context of the current call, for the next hop."""
    scope = current_scope()
    metadata: list[tuple[str, str]] = []
    if scope.identity is not None:
        metadata += [(USER_KEY, scope.identity.user_id), (TIER_KEY, scope.identity.tier)]
        if scope.identity.residency:
            metadata.append((RESIDENCY_KEY, scope.identity.residency))
        if scope.identity.tenant_id:
            metadata.append((TENANT_KEY, scope.identity.tenant_id))
    if scope.request_id:
        metadata.append((REQUEST_ID_KEY, scope.request_id))
    traceparent = current_traceparent()
    if traceparent:
        metadata.append((TRACEPARENT_KEY, traceparent))
    return tuple(metadata)


def _timeout_s(timeout_s: float, service: str) -> float:
    remaining = current_scope().remaining_s()
    if remaining is None:
        return timeout_s
    if remaining <= DEADLINE_MARGIN_S:
        raise DomainError(
            Reason.DEADLINE_EXCEEDED,
            f"No time is left to call the {service} service.",
            metadata={"service": service},
        )
    return min(timeout_s, remaining - DEADLINE_MARGIN_S)


def _resolvable(target: str) -> str:
    """The target as gRPC wants it: plain `host:port` lists of IPv4 addresses need their scheme said."""
    if ":///" in target or target.startswith("unix:"):
        return target
    parts = [part.strip() for part in target.split(",")]
    if all(part.rpartition(":")[0].replace(".", "").isdigit() for part in parts):
        return "ipv4:" + ",".join(parts)
    if len(parts) == 1:
        return f"dns:///{parts[0]}"
    raise SettingsError(f"'{target}': several targets must be IPv4 addresses; give a name that resolves to all")
