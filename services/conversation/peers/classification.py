"""The Moderation service, asked what it makes of texts that go nowhere."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from chatmesh.moderation.v1.moderation_service_pb2_grpc import ModerationServiceStub
from services.conversation.model import Classified
from services.conversation.peers.classification_convert import classified_from_pb, classify_request
from services.runtime.client import call_unary

TIMEOUT_S = 30.0


class ClassificationPeer:
    """Classifies texts."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ModerationServiceStub(channel)

    async def classify(self, texts: Sequence[str]) -> Classified:
        """What the content policy makes of texts.

        Raises:
            DomainError: DEPENDENCY_UNAVAILABLE, DEADLINE_EXCEEDED.
        """
        response = await call_unary(
            self._stub.Classify, classify_request(texts), timeout_s=TIMEOUT_S, service="moderation"
        )
        return classified_from_pb(response)
