"""Between events and their rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from services.moderation.model import Action, Direction, Event, Finding, Layer, Outcome, Subject
from services.moderation.review.model import Decision, EventState, ReviewedEvent
from services.runtime.database import Row

MAX_FINDINGS = 500
"""Findings that are kept of one event."""


def event_parameters(events: Sequence[Event]) -> Mapping[str, Any]:
    """The events as the arrays that RECORD takes."""
    return {
        "id": [event.event_id for event in events],
        "created_at": [event.created_at for event in events],
        "generation_id": [event.subject.generation_id for event in events],
        "conversation_id": [event.subject.conversation_id for event in events],
        "user_id": [event.subject.user_id for event in events],
        "tenant_id": [event.subject.tenant_id for event in events],
        "tier": [event.subject.tier for event in events],
        "direction": [event.direction.value for event in events],
        "action": [event.action.name.lower() for event in events],
        "category": [event.category for event in events],
        "findings": [json.dumps([_finding_to(finding) for finding in _shown(event)]) for event in events],
        "text_sha256": [event.text_sha256 for event in events],
        "text_length": [event.text_length for event in events],
        "text": [_storable(event.text) for event in events],
        "text_expires_at": [event.expires_at for event in events],
        "policy_version": [event.policy_version for event in events],
        "late": [event.late for event in events],
        "pending": [event.pending for event in events],
    }


def reviewed_from(row: Row, *, now: datetime) -> ReviewedEvent:
    """The event of a row with the columns WITH_TEXT or WITHOUT_TEXT, as it stands now: also what is over without having
    been tidied up."""
    text, text_kept, text_expires_at, event_id, created_at = row[:5]
    generation_id, conversation_id, user_id, tenant_id, tier, direction, action, category, findings = row[5:14]
    text_sha256, text_length, policy_version, late, state, claimed_by, claim_expires_at = row[14:21]
    decision, decided_by, decided_at, comment, appeal, appealed_at = row[21:]
    kept = text_kept and text_expires_at > now
    claimed = state == "pending" and claim_expires_at is not None and claim_expires_at > now
    return ReviewedEvent(
        event=Event(
            event_id=str(event_id),
            created_at=created_at,
            subject=Subject(generation_id, conversation_id, user_id, tenant_id, tier),
            direction=Direction(direction),
            action=Action[action.upper()],
            category=category,
            findings=tuple(_finding_from(finding) for finding in findings),
            text_sha256=text_sha256,
            text_length=text_length,
            text=text if kept else None,
            expires_at=text_expires_at,
            policy_version=policy_version,
            pending=state == "pending",
            late=late,
        ),
        text_kept=kept,
        state=EventState.CLAIMED if claimed else EventState(state),
        claimed_by=claimed_by if claimed else "",
        claim_expires_at=claim_expires_at if claimed else None,
        decision=Decision(decision) if decision else None,
        decided_by=decided_by,
        decided_at=decided_at,
        comment=comment,
        appeal=appeal,
        appealed_at=appealed_at,
    )


def _storable(text: str | None) -> str | None:
    """The text without what no database text can hold and a model may write all the same. Offsets stay."""
    return None if text is None else text.replace("\0", "\ufffd").encode(errors="replace").decode()


def _shown(event: Event) -> Sequence[Finding]:
    """The findings, of very many the strictest: a text of a million characters may be all addresses."""
    if len(event.findings) <= MAX_FINDINGS:
        return event.findings
    strictest = sorted(event.findings, key=lambda finding: -finding.outcome.action)[:MAX_FINDINGS]
    return sorted(strictest, key=lambda finding: finding.start)


def _finding_to(finding: Finding) -> dict[str, Any]:
    outcome = finding.outcome
    return {
        "start": finding.start,
        "end": finding.end,
        "category": outcome.category,
        "rule": outcome.rule,
        "action": outcome.action.name.lower(),
        "layer": outcome.layer.value,
        "score": round(finding.score, 4),
    }


def _finding_from(finding: Mapping[str, Any]) -> Finding:
    outcome = Outcome(
        category=finding["category"],
        rule=finding["rule"],
        action=Action[finding["action"].upper()],
        # What it was replaced by is the policy's business.
        replacement="",
        layer=Layer(finding["layer"]),
    )
    return Finding(finding["start"], finding["end"], outcome, finding["score"])
