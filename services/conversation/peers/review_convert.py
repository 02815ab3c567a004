"""Between the review queue's contract and the model."""

from __future__ import annotations

from chatmesh.moderation.v1 import review_service_pb2


def appeal_request(*, event_id: str, user_id: str, appeal: str) -> review_service_pb2.AppealEventRequest:
    """Asks for another look."""
    return review_service_pb2.AppealEventRequest(event_id=event_id, user_id=user_id, appeal=appeal)


def forget_user_request() -> review_service_pb2.ForgetUserRequest:
    """Asks that the caller be forgotten."""
    return review_service_pb2.ForgetUserRequest()
