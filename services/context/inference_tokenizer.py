"""The tokenizers of the inference replicas, over gRPC."""

from __future__ import annotations

from collections.abc import Sequence

from chatmesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from services.context.convert import count_request, counts_from
from services.context.tokens import Counts
from services.runtime.client import ChannelPool, call_unary
from services.runtime.errors import DomainError, Reason


class InferenceTokenizer:
    """Counts tokens on the replica that will answer."""

    def __init__(self, *, channels: ChannelPool, timeout_s: float) -> None:
        self._channels = channels
        self._timeout_s = timeout_s

    async def count(self, *, address: str, model: str, texts: Sequence[str]) -> Counts:
        """Count the tokens of texts.

        Raises:
            DomainError: the replica's own error, DEPENDENCY_UNAVAILABLE, DEADLINE_EXCEEDED.
        """
        stub = InferenceServiceStub(self._channels.channel(address))
        response = await call_unary(
            stub.CountTokens, count_request(model, texts), timeout_s=self._timeout_s, service="inference"
        )
        counts = counts_from(response)
        if len(counts.tokens) != len(texts):
            raise DomainError(
                Reason.DEPENDENCY_UNAVAILABLE,
                "The inference service counted other texts than it was asked to.",
                metadata={"service": "inference"},
            )
        return counts
