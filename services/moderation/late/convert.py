"""Between late verdicts and their contract."""

from __future__ import annotations

from chatmesh.moderation.v1 import late_verdict_pb2
from services.moderation.late.verdict import LateAction, LateVerdict
from services.moderation.model import Direction

_ACTIONS = {
    LateAction.RETRACT: late_verdict_pb2.LATE_ACTION_RETRACT,
    LateAction.RESTORE: late_verdict_pb2.LATE_ACTION_RESTORE,
}


def serialized(verdict: LateVerdict) -> bytes:
    """The verdict as it goes on the wire."""
    return late_verdict_pb2.LateVerdict(
        generation_id=verdict.generation_id,
        user_id=verdict.user_id,
        action=_ACTIONS[verdict.action],
        input=verdict.direction is Direction.INPUT,
        category=verdict.category,
        replacement=verdict.replacement,
        text=verdict.text,
        event_id=verdict.event_id,
        policy_version=verdict.policy_version,
    ).SerializeToString()
