"""The services behind the edge, on real ports: each test says what they answer and reads what they were asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from chatmesh.conversation.v1 import (
    conversation_service_pb2,
    conversation_service_pb2_grpc,
    generation_service_pb2,
    generation_service_pb2_grpc,
    openai_service_pb2,
    openai_service_pb2_grpc,
    share_service_pb2,
    share_service_pb2_grpc,
    transfer_service_pb2,
    transfer_service_pb2_grpc,
    user_service_pb2,
    user_service_pb2_grpc,
)
from chatmesh.usage.v1 import rate_limit_pb2, usage_service_pb2, usage_service_pb2_grpc

Handler = Callable[[Any, Any], Any]
"""Takes the request (where the client streams: the requests) and the context, as a method of a servicer does: a
coroutine, or where the service streams an async generator."""

CONVERSATION = "chatmesh.conversation.v1.ConversationService"
OPENAI = "chatmesh.conversation.v1.OpenAIService"
RATE_LIMIT = "envoy.service.ratelimit.v3.RateLimitService"


@dataclass(frozen=True, slots=True)
class Call:
    """One call that arrived."""

    method: str
    request: Any
    metadata: dict[str, str | bytes]


@dataclass(slots=True)
class Script:
    """What the services answer, by method, and which calls came."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    unused: set[str] = field(default_factory=set)
    rate_limit: Callable[[rate_limit_pb2.RateLimitRequest], Awaitable[rate_limit_pb2.RateLimitResponse]] | None = None
    rate_limit_calls: list[rate_limit_pb2.RateLimitRequest] = field(default_factory=list)

    def on(self, method: str, handler: Handler) -> None:
        """Answer `method` by `handler`. A handler that is never called fails the test."""
        self.handlers[method] = handler
        self.unused.add(method)

    def reset(self) -> None:
        """Forget everything, before the next test."""
        self.handlers.clear()
        self.calls.clear()
        self.unused.clear()
        self.rate_limit = None
        self.rate_limit_calls.clear()

    def only_call(self) -> Call:
        """The one call that arrived."""
        assert len(self.calls) == 1, [call.method for call in self.calls]
        return self.calls[0]

    async def take(self, method: str, request: Any, context: Any) -> Handler:
        """Note the call and find its answer."""
        metadata = dict(context.invocation_metadata() or ())
        self.calls.append(Call(method, request, metadata))
        self.unused.discard(method)
        handler = self.handlers.get(method)
        if handler is None:
            await context.abort(grpc.StatusCode.INTERNAL, f"the test has no answer for {method}")
            raise AssertionError
        return handler


def _scripted(base: type, service: ServiceDescriptor, script: Script) -> Any:
    """A servicer of `base` whose methods all follow the script."""

    def unary(method: str) -> Any:
        async def call(_self: object, request: Any, context: Any) -> Any:
            return await (await script.take(method, request, context))(request, context)

        return call

    def stream(method: str) -> Any:
        async def call(_self: object, request: Any, context: Any) -> Any:
            async for message in (await script.take(method, request, context))(request, context):
                yield message

        return call

    members = {m.name: stream(m.name) if m.server_streaming else unary(m.name) for m in service.methods}
    return type(f"Scripted{base.__name__}", (base,), members)()


_CONVERSATION_SERVICES = (
    ("ConversationService", conversation_service_pb2, conversation_service_pb2_grpc),
    ("GenerationService", generation_service_pb2, generation_service_pb2_grpc),
    ("ShareService", share_service_pb2, share_service_pb2_grpc),
    ("UserService", user_service_pb2, user_service_pb2_grpc),
    ("TransferService", transfer_service_pb2, transfer_service_pb2_grpc),
    ("OpenAIService", openai_service_pb2, openai_service_pb2_grpc),
)


def _add(name: str, messages: Any, stubs: Any, *, script: Script, server: grpc.aio.Server) -> None:
    servicer = _scripted(getattr(stubs, f"{name}Servicer"), messages.DESCRIPTOR.services_by_name[name], script)
    getattr(stubs, f"add_{name}Servicer_to_server")(servicer, server)


@dataclass(slots=True)
class Backend:
    """A Conversation and a Usage process."""

    script: Script
    conversation: str
    usage: str
    health: health.aio.HealthServicer
    servers: list[grpc.aio.Server]
    metadata: list[dict[str, str | bytes]]
    """What came with every call to Conversation, health checks and reflection included."""

    async def set_serving(self, serving: bool) -> None:
        """What Conversation's health says."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await self.health.set("", status)

    async def stop(self) -> None:
        """End both processes."""
        for server in self.servers:
            await server.stop(0)


async def start_backend(script: Script) -> Backend:
    """Start the fakes on free ports."""
    recorder = _Recorder()
    conversation, conversation_address = _server(recorder)
    for name, messages, stubs in _CONVERSATION_SERVICES:
        _add(name, messages, stubs, script=script, server=conversation)
    checker = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checker, conversation)
    reflection.enable_server_reflection([CONVERSATION, OPENAI, reflection.SERVICE_NAME], conversation)
    usage, usage_address = _server()
    _add("UsageService", usage_service_pb2, usage_service_pb2_grpc, script=script, server=usage)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), usage)
    usage.add_generic_rpc_handlers((_rate_limit_handler(script),))
    for server in (conversation, usage):
        await server.start()
    backend = Backend(script, conversation_address, usage_address, checker, [conversation, usage], recorder.seen)
    await backend.set_serving(True)
    return backend


class _Recorder(grpc.aio.ServerInterceptor):
    """Notes the metadata of every call."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str | bytes]] = []

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self.seen.append(dict(handler_call_details.invocation_metadata))
        return await continuation(handler_call_details)


def _server(*interceptors: grpc.aio.ServerInterceptor) -> tuple[grpc.aio.Server, str]:
    server = grpc.aio.server(
        interceptors=interceptors,
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", 16 * 1024 * 1024),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
        ],
    )
    return server, f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"


def _rate_limit_handler(script: Script) -> grpc.GenericRpcHandler:
    async def should_rate_limit(request: rate_limit_pb2.RateLimitRequest, _context: Any) -> Any:
        script.rate_limit_calls.append(request)
        if script.rate_limit is None:
            return rate_limit_pb2.RateLimitResponse(overall_code=rate_limit_pb2.RATE_LIMIT_CODE_OK)
        return await script.rate_limit(request)

    handler = grpc.unary_unary_rpc_method_handler(
        should_rate_limit,
        request_deserializer=rate_limit_pb2.RateLimitRequest.FromString,
        response_serializer=rate_limit_pb2.RateLimitResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(RATE_LIMIT, {"ShouldRateLimit": handler})
