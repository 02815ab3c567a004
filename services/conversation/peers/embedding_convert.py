"""Between Inference's contract for embeddings and the model."""

from __future__ import annotations

from collections.abc import Sequence

from chatmesh.inference.v1 import generation_pb2, inference_service_pb2
from services.conversation.model import Embeddings
from services.conversation.route_model import Priority


def embed_request(model: str, texts: Sequence[str], priority: Priority) -> inference_service_pb2.EmbedRequest:
    """Asks for the vectors of texts."""
    return inference_service_pb2.EmbedRequest(model=model, texts=texts, priority=generation_pb2.Priority.Name(priority))


def embeddings_from_pb(response: inference_service_pb2.EmbedResponse) -> Embeddings:
    """What the engine said."""
    return Embeddings(
        vectors=tuple(tuple(embedding.values) for embedding in response.embeddings),
        prompt_tokens=response.prompt_tokens,
        truncated=response.truncated,
    )
