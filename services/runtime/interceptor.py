"""What surrounds every inbound call: scope, trace, metrics, limits, errors. The same for unary and streaming.

It wraps a call once, never a message, except for the check of limits on each request message.
"""

from __future__ import annotations

import inspect
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import SpanKind, Status, StatusCode

from services.runtime.clock import new_id
from services.runtime.errors import STATUS_DETAILS_KEY, DomainError, Reason, internal_error, to_status
from services.runtime.identity import (
    DEFAULT_TIER,
    REQUEST_ID_KEY,
    RESIDENCY_KEY,
    TENANT_KEY,
    TIER_KEY,
    USER_KEY,
    CallScope,
    Identity,
    enter_scope,
)
from services.runtime.telemetry import TRACEPARENT_KEY, Telemetry, parent_context
from services.runtime.validation import CHECKS_ITS_ITEMS, Validator

_log = logging.getLogger(__name__)

MAX_USER = 256
MAX_TIER = 64
MAX_RESIDENCY = 64
MAX_TENANT = 256

_INFRASTRUCTURE = ("/grpc.health.", "/grpc.reflection.")
"""Services that have no identity, no limits and no errors of ours."""

if TYPE_CHECKING:
    # Generic in the type stubs only.
    Context = grpc.aio.ServicerContext[Any, Any]
    RpcHandler = grpc.RpcMethodHandler[Any, Any]
    Handler = Callable[[Any, Context], Any]


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Gives each handler its scope and span, checks its requests, and turns what it raises into a status."""

    def __init__(self, *, telemetry: Telemetry, validator: Validator) -> None:
        self._tracer = telemetry.tracer
        self._validator = validator
        self._duration = telemetry.meter.create_histogram(
            "rpc.server.call.duration", unit="s", description="Duration of inbound calls."
        )
        self._wrapped: dict[str, RpcHandler] = {}
        # Counted here and read when the metrics are: an up-down counter costs a tenth of a small call.
        self._active: Counter[str] = Counter()
        telemetry.meter.create_observable_up_down_counter(
            "rpc.server.active_calls", [self._observe_active], description="Inbound calls that are being served."
        )

    def _observe_active(self, _: CallbackOptions) -> list[Observation]:
        return [Observation(count, {"rpc.method": method}) for method, count in self._active.copy().items()]

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[RpcHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> RpcHandler | None:
        """Wrap the handler of one call."""
        method: str = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            found = await continuation(handler_call_details)
            if found is None or method.startswith(_INFRASTRUCTURE):
                return found
            wrapped = self._wrapped[method] = self._wrap(method, found)
        return wrapped

    def _wrap(self, method: str, handler: Any) -> RpcHandler:
        # The type stubs know only the four callables that every handler has, not which one of them is set.
        serializers = {
            "request_deserializer": _tolerant(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming and handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._streaming(method, handler.stream_stream, request_streaming=True), **serializers
            )
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(
                self._unary(method, handler.stream_unary, request_streaming=True), **serializers
            )
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._streaming(method, handler.unary_stream, request_streaming=False), **serializers
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(method, handler.unary_unary, request_streaming=False), **serializers
        )

    def _unary(self, method: str, handler: Handler, *, request_streaming: bool) -> Handler:
        async def call(request: Any, context: Context) -> Any:
            async with self._around(method, context):
                return await handler(self._checked(request, request_streaming), context)

        return call

    def _streaming(self, method: str, handler: Handler, *, request_streaming: bool) -> Handler:
        yields = inspect.isasyncgenfunction(handler)
        checks = not getattr(handler, CHECKS_ITS_ITEMS, False)

        async def call(request: Any, context: Context) -> None:
            async with self._around(method, context):
                checked = self._checked(request, request_streaming, limits=checks)
                if not yields:
                    await handler(checked, context)
                    return
                # A call that is cancelled while it writes would leave the handler's clean-up to the garbage collector.
                async with aclosing(handler(checked, context)) as responses:
                    async for response in responses:
                        await context.write(response)

        return call

    def _checked(self, request: Any, request_streaming: bool, *, limits: bool = True) -> Any:
        if request_streaming:
            return self._checked_stream(request, limits=limits)
        return self._check(request, limits=limits)

    async def _checked_stream(self, requests: AsyncIterator[Any], *, limits: bool) -> AsyncIterator[Any]:
        async for request in requests:
            yield self._check(request, limits=limits)

    def _check(self, request: Any, *, limits: bool) -> Any:
        if isinstance(request, _Undecodable):
            raise DomainError(Reason.INVALID_REQUEST, "The request is no message of this method's type.")
        if limits:
            self._validator.validate(request)
        return request

    @asynccontextmanager
    async def _around(self, method: str, context: Context) -> AsyncIterator[None]:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        scope = _read_scope(metadata, context.time_remaining())
        enter_scope(scope)
        name = method.lstrip("/")
        code = grpc.StatusCode.OK
        started = time.perf_counter()
        self._active[name] += 1
        try:
            with self._tracer.start_as_current_span(
                name,
                context=parent_context(metadata.get(TRACEPARENT_KEY, ""), scope.request_id),
                kind=SpanKind.SERVER,
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                try:
                    yield
                except grpc.aio.AbortError:
                    code = context.code()
                    raise
                except DomainError as error:
                    code = error.code
                    span.set_attribute("error.type", error.reason.value)
                    await abort(context, error)
                except Exception:  # noqa: BLE001 - nothing may cross the wire as it is
                    code = grpc.StatusCode.INTERNAL
                    span.set_status(Status(StatusCode.ERROR))
                    _log.exception("unhandled error", extra={"method": method})
                    await abort(context, internal_error(scope.request_id))
                except BaseException:
                    code = grpc.StatusCode.CANCELLED
                    raise
                finally:
                    span.set_attribute("rpc.response.status_code", code.name)
        finally:
            self._active[name] -= 1
            self._duration.record(
                time.perf_counter() - started, {"rpc.method": name, "rpc.response.status_code": code.name}
            )


class _Undecodable:
    """Stands for a request that is no message of its type, until the call can be refused for it."""


def _tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """grpc answers bytes that it cannot decode with the exception's own text; here they are refused as all else."""

    def decode(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Undecodable()

    return decode


async def abort(context: Context, error: DomainError) -> None:
    """End the call with the error as a `google.rpc.Status`, and `retry-after` for clients that read only headers."""
    status: status_pb2.Status = to_status(error)
    trailers: list[tuple[str, str | bytes]] = [(STATUS_DETAILS_KEY, status.SerializeToString())]
    if error.retry_after_s is not None:
        trailers.append(("retry-after", str(max(1, round(error.retry_after_s)))))
    trailers.extend((key, value) for key, value in context.trailing_metadata() or ())
    await context.abort(error.code, error.message, tuple(trailers))


def _read_identity(metadata: dict[str, str], user: str) -> Identity:
    # A residency that nobody knows is kept: it is refused where it counts, and not taken for none.
    return Identity(
        user,
        metadata.get(TIER_KEY) or DEFAULT_TIER,
        metadata.get(RESIDENCY_KEY, "")[:MAX_RESIDENCY],
        metadata.get(TENANT_KEY, ""),
    )


def _read_scope(metadata: dict[str, str], remaining_s: float | None) -> CallScope:
    user = metadata.get(USER_KEY, "")
    limits = ((USER_KEY, MAX_USER), (TIER_KEY, MAX_TIER), (TENANT_KEY, MAX_TENANT))
    if any(len(metadata.get(key, "")) > limit for key, limit in limits):
        # Longer than anything that we store of a user: nobody we know.
        user = ""
    return CallScope(
        identity=_read_identity(metadata, user) if user else None,
        request_id=metadata.get(REQUEST_ID_KEY) or new_id(),
        deadline=None if remaining_s is None else time.monotonic() + remaining_s,
    )
