"""Between Moderation's contract for classifying and the model."""

from __future__ import annotations

from collections.abc import Sequence

from chatmesh.moderation.v1 import moderation_service_pb2
from services.conversation.model import CategoryScore, Classification, Classified


def classify_request(texts: Sequence[str]) -> moderation_service_pb2.ClassifyRequest:
    """Asks what the policy makes of texts."""
    return moderation_service_pb2.ClassifyRequest(texts=texts)


def classified_from_pb(response: moderation_service_pb2.ClassifyResponse) -> Classified:
    """What the policy makes of them."""
    return Classified(
        results=tuple(
            Classification(
                result.flagged, {item.category: CategoryScore(item.flagged, item.score) for item in result.categories}
            )
            for result in response.classifications
        ),
        classifier_version=response.classifier_version,
    )
