"""The gRPC services of Usage: ours, and the one that Envoy asks."""

from __future__ import annotations

from typing import Any

import grpc

from chatmesh.usage.v1 import rate_limit_pb2, usage_service_pb2
from chatmesh.usage.v1.usage_service_pb2_grpc import UsageServiceServicer
from services.runtime.identity import require_identity
from services.usage import convert
from services.usage.check_rate import CheckRate
from services.usage.quota import Quota

ENVOY_SERVICE = "envoy.service.ratelimit.v3.RateLimitService"

Context = grpc.aio.ServicerContext[Any, Any]


class UsageServicer(UsageServiceServicer):
    """Serves `chatmesh.usage.v1.UsageService`."""

    def __init__(self, *, quota: Quota) -> None:
        self._quota = quota

    async def Acquire(
        self, request: usage_service_pb2.AcquireRequest, context: Context
    ) -> usage_service_pb2.AcquireResponse:
        """Sets tokens aside for a generation."""
        lease = await self._quota.acquire(require_identity(), request.generation_id, tokens=request.tokens)
        return convert.lease_to(lease)

    async def Settle(
        self, request: usage_service_pb2.SettleRequest, context: Context
    ) -> usage_service_pb2.SettleResponse:
        """Records what generations used."""
        recorded = await self._quota.settle(convert.records_from(request.records))
        return usage_service_pb2.SettleResponse(recorded=recorded)

    async def GetUsage(
        self, request: usage_service_pb2.GetUsageRequest, context: Context
    ) -> usage_service_pb2.GetUsageResponse:
        """Says what the caller has used."""
        return convert.report_to(await self._quota.report(require_identity(), days=request.days))

    async def ForgetUser(
        self, request: usage_service_pb2.ForgetUserRequest, context: Context
    ) -> usage_service_pb2.ForgetUserResponse:
        """Takes the caller's name off the records."""
        return usage_service_pb2.ForgetUserResponse(records=await self._quota.forget(require_identity()))


class EnvoyRateLimitServicer:
    """Serves Envoy's rate limit service with our messages, which are the same on the wire."""

    def __init__(self, *, check_rate: CheckRate) -> None:
        self._check_rate = check_rate

    async def should_rate_limit(
        self, request: rate_limit_pb2.RateLimitRequest, context: Context
    ) -> rate_limit_pb2.RateLimitResponse:
        """Says whether a request may pass."""
        decision = await self._check_rate.check(convert.descriptors_from(request), hits=request.hits_addend or 1)
        return convert.decision_to(decision)

    def handler(self) -> grpc.GenericRpcHandler:
        """The handler to add to a server."""
        method = grpc.unary_unary_rpc_method_handler(
            self.should_rate_limit,
            request_deserializer=rate_limit_pb2.RateLimitRequest.FromString,
            response_serializer=rate_limit_pb2.RateLimitResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(ENVOY_SERVICE, {"ShouldRateLimit": method})
