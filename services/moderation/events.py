"""What is written down of what moderation does."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import Protocol

from services.moderation.model import Action, Direction, Event, Finding, Subject
from services.moderation.policy import Policy
from services.runtime.clock import Clock, new_id

_OF_EVENTS = uuid.UUID("5a0c52b1-7d0e-4f7f-9d86-3a4f6f2c4f6e")


class Recorder(Protocol):
    """Where events go."""

    def record(self, event: Event) -> None:
        """Take an event. Returns at once."""
        ...


class Events:
    """Makes events by the policy's word, and hands them on."""

    def __init__(self, *, recorder: Recorder, clock: Clock) -> None:
        self._recorder = recorder
        self._clock = clock

    def record(
        self,
        policy: Policy,
        *,
        subject: Subject,
        direction: Direction,
        action: Action,
        findings: Sequence[Finding],
        text: str,
        late: bool = False,
    ) -> str:
        """Write down what was done about a text. Returns the event's id, empty when nothing is written down."""
        review = policy.review
        decisive = next((finding for finding in findings if finding.outcome.action is action), None)
        if decisive is None or action < review.record:
            return ""
        pending = action >= review.queue
        kept = review.keeps(pending)
        now = self._clock.now()
        event = Event(
            event_id=_event_id(subject, direction, action, decisive.outcome.category, late=late),
            created_at=now,
            subject=subject,
            direction=direction,
            action=action,
            category=decisive.outcome.category,
            findings=tuple(findings),
            text_sha256=hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest(),
            text_length=len(text),
            text=text if kept else None,
            expires_at=now + (review.text_for if kept else review.event_for),
            policy_version=policy.version,
            pending=pending,
            late=late,
        )
        self._recorder.record(event)
        return event.event_id


def _event_id(subject: Subject, direction: Direction, action: Action, category: str, *, late: bool) -> str:
    """The same id for the same event: a peer that lost its stream, or took a turn over, has texts checked again."""
    if not subject.generation_id:
        return new_id()
    what = (subject.generation_id, direction, action.name, category, "late" if late else "")
    return str(uuid.uuid5(_OF_EVENTS, "\n".join(what)))
