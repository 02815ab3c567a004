"""The Usage service."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from chatmesh.usage.v1.usage_service_pb2_grpc import UsageServiceStub
from services.conversation.model import UsageRecord
from services.conversation.peers.convert import acquire_request, forget_request, settle_request
from services.runtime.client import call_unary

TIMEOUT_S = 2.0
SETTLE_TIMEOUT_S = 10.0
FORGET_TIMEOUT_S = 60.0


class UsagePeer:
    """Reserves tokens and says what was used."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = UsageServiceStub(channel)

    async def acquire(self, *, generation_id: str, tokens: int) -> int:
        """Reserve tokens of the caller's quota. Returns how many were granted; fewer when fewer are left.

        Raises:
            DomainError: QUOTA_EXCEEDED.
        """
        request = acquire_request(generation_id=generation_id, tokens=tokens)
        response = await call_unary(self._stub.Acquire, request, timeout_s=TIMEOUT_S, service="usage")
        return response.granted_tokens

    async def settle(self, records: Sequence[UsageRecord]) -> None:
        """Store what generations used, each once."""
        await call_unary(self._stub.Settle, settle_request(records), timeout_s=SETTLE_TIMEOUT_S, service="usage")

    async def forget_user(self) -> None:
        """Take the caller's name off what is stored of their use."""
        await call_unary(self._stub.ForgetUser, forget_request(), timeout_s=FORGET_TIMEOUT_S, service="usage")
