"""The Inference replicas that turn texts into vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from chatmesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from services.conversation.model import Embeddings
from services.conversation.peers.embedding_convert import embed_request, embeddings_from_pb
from services.conversation.route_model import Priority
from services.runtime.client import ChannelPool, call_unary
from services.runtime.errors import DomainError, Reason

TIMEOUT_S = 60.0


class EmbeddingPeers:
    """Vectors from any replica, by its address."""

    def __init__(self, channels: ChannelPool) -> None:
        """`channels` are for this alone: those to replicas that are gone are closed."""
        self._channels = channels
        self._waiting: Counter[str] = Counter()
        """Calls on their way, by address."""

    async def embed(self, address: str, *, model: str, texts: Sequence[str], priority: Priority) -> Embeddings:
        """One vector for each text.

        Raises:
            DomainError: The replica's own error, DEPENDENCY_UNAVAILABLE, DEADLINE_EXCEEDED.
        """
        stub = InferenceServiceStub(self._channels.channel(address))
        self._waiting[address] += 1
        try:
            # Not again here: another replica can answer as well, and sooner.
            response = await call_unary(
                stub.Embed,
                embed_request(model, texts, priority),
                timeout_s=TIMEOUT_S,
                service="inference",
                idempotent=False,
            )
        except DomainError as error:
            if error.reason is Reason.DEPENDENCY_UNAVAILABLE and self._waiting[address] == 1:
                # Replicas come and go; a channel to one that is gone would try to connect for ever.
                self._channels.discard(address)
            raise
        finally:
            self._waiting[address] -= 1
            self._waiting += Counter()
        embeddings = embeddings_from_pb(response)
        if len(embeddings.vectors) != len(texts):
            raise DomainError(
                Reason.ENGINE_FAILED,
                "The engine embedded other texts than it was asked to; ask again.",
            )
        return embeddings
