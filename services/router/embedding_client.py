"""Embeddings from the inference replicas, over gRPC."""

from __future__ import annotations

from collections.abc import Sequence

from chatmesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from services.router.convert import embed_request, vectors_from
from services.router.similarity import Vector
from services.runtime.client import ChannelPool, call_unary


class EmbeddingClient:
    """Asks a replica for vectors."""

    def __init__(self, *, channels: ChannelPool) -> None:
        self._channels = channels

    async def embed(self, address: str, *, model: str, texts: Sequence[str], timeout_s: float) -> list[Vector]:
        """The vectors of these texts, in their order, each of length 1.

        Raises:
            DomainError: when they cannot be had in time.
        """
        stub = InferenceServiceStub(self._channels.channel(address))
        # Asked once: who waits for it does without sooner than it waits for a second try.
        response = await call_unary(
            stub.Embed, embed_request(model, texts), timeout_s=timeout_s, service="inference", idempotent=False
        )
        return vectors_from(response)
