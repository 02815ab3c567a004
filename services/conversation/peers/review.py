"""Moderation's review queue."""

from __future__ import annotations

import grpc

from chatmesh.moderation.v1.review_service_pb2_grpc import ReviewServiceStub
from services.conversation.peers.review_convert import appeal_request, forget_user_request
from services.runtime.client import call_unary

TIMEOUT_S = 3.0
FORGET_TIMEOUT_S = 60.0


class ReviewPeer:
    """Puts events into the queue."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ReviewServiceStub(channel)

    async def appeal(self, *, event_id: str, user_id: str, appeal: str) -> None:
        """Say that a user does not agree with what was done.

        Raises:
            DomainError: EVENT_NOT_FOUND, WRONG_EVENT_STATE.
        """
        # Not again here: a second one is refused, also when it is the same.
        await call_unary(
            self._stub.AppealEvent,
            appeal_request(event_id=event_id, user_id=user_id, appeal=appeal),
            timeout_s=TIMEOUT_S,
            service="moderation",
            idempotent=False,
        )

    async def forget_user(self) -> None:
        """Delete what is stored of the caller's texts."""
        await call_unary(self._stub.ForgetUser, forget_user_request(), timeout_s=FORGET_TIMEOUT_S, service="moderation")
