"""Between the review queue and its contract."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf import timestamp_pb2

from chatmesh.moderation.v1 import review_service_pb2
from services.moderation.convert import ACTIONS, finding_to
from services.moderation.model import Direction
from services.moderation.review.model import (
    AuditEntry,
    DecidedText,
    Decision,
    EventState,
    ReviewedEvent,
    Selection,
    training_head,
)
from services.runtime.errors import DomainError, FieldViolation, Reason

_STATES = {
    EventState.CLOSED: review_service_pb2.EVENT_STATE_CLOSED,
    EventState.PENDING: review_service_pb2.EVENT_STATE_PENDING,
    EventState.CLAIMED: review_service_pb2.EVENT_STATE_CLAIMED,
    EventState.DECIDED: review_service_pb2.EVENT_STATE_DECIDED,
}
_DECISIONS = {
    Decision.UPHOLD: review_service_pb2.DECISION_UPHOLD,
    Decision.OVERTURN: review_service_pb2.DECISION_OVERTURN,
}
_LABELS = {Decision.UPHOLD: "unsafe", Decision.OVERTURN: "safe"}


def selection_from(request: review_service_pb2.ListEventsRequest) -> Selection:
    """Which events to list."""
    return Selection(
        state=next((state for state, value in _STATES.items() if value == request.state), None),
        category=request.category,
        user_id=request.user_id,
        generation_id=request.generation_id,
        appealed=request.appealed,
    )


def decision_from(request: review_service_pb2.DecideEventRequest) -> Decision:
    """The decision.

    Raises:
        DomainError: INVALID_FIELD when there is none.
    """
    for decision, value in _DECISIONS.items():
        if value == request.decision:
            return decision
    problem = "say DECISION_UPHOLD or DECISION_OVERTURN"
    raise DomainError(Reason.INVALID_FIELD, f"decision: {problem}", fields=[FieldViolation("decision", problem)])


def event_to(reviewed: ReviewedEvent) -> review_service_pb2.Event:
    """The event as it goes on the wire."""
    event = reviewed.event
    return review_service_pb2.Event(
        event_id=event.event_id,
        create_time=_timestamp(event.created_at),
        generation_id=event.subject.generation_id,
        conversation_id=event.subject.conversation_id,
        user_id=event.subject.user_id,
        tenant_id=event.subject.tenant_id,
        tier=event.subject.tier,
        input=event.direction is Direction.INPUT,
        action=ACTIONS[event.action],
        category=event.category,
        findings=[finding_to(finding) for finding in event.findings],
        text_sha256=event.text_sha256,
        text_length=event.text_length,
        text=event.text or "",
        text_kept=reviewed.text_kept,
        policy_version=event.policy_version,
        state=_STATES[reviewed.state],
        claimed_by=reviewed.claimed_by,
        claim_expire_time=_timestamp(reviewed.claim_expires_at),
        decision=_DECISIONS[reviewed.decision] if reviewed.decision else review_service_pb2.DECISION_UNSPECIFIED,
        decided_by=reviewed.decided_by,
        decide_time=_timestamp(reviewed.decided_at),
        comment=reviewed.comment,
        appeal=reviewed.appeal,
        appeal_time=_timestamp(reviewed.appealed_at),
        late=event.late,
    )


def audit_to(entry: AuditEntry) -> review_service_pb2.AuditEntry:
    """One thing that somebody did."""
    return review_service_pb2.AuditEntry(time=_timestamp(entry.happened_at), actor=entry.actor, what=entry.what)


def training_row_to(text: DecidedText) -> review_service_pb2.TrainingRow:
    """A decision as a row of training data."""
    return review_service_pb2.TrainingRow(
        id=text.event_id,
        text=text.text,
        label=_LABELS[text.decision],
        categories=[text.category],
        kind=text.direction.value,
        head=training_head(text.direction, text.category),
    )


def _timestamp(moment: datetime | None) -> timestamp_pb2.Timestamp | None:
    if moment is None:
        return None
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment.astimezone(UTC))
    return message
