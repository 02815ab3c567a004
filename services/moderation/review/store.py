"""Events in the database: recorded, looked at, claimed, decided, forgotten. Who looked at which is written down."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

from services.moderation.late.verdict import LateAction, LateVerdict
from services.moderation.model import Direction, Event
from services.moderation.review import event_sql as sql
from services.moderation.review.model import (
    AuditEntry,
    DecidedText,
    Decision,
    EventState,
    ReviewedEvent,
    Selection,
)
from services.moderation.review.rows import event_parameters, reviewed_from
from services.runtime.clock import Clock
from services.runtime.database import Database, Row
from services.runtime.errors import DomainError, Reason

AT_ONCE = 500
"""Rows that one statement of the upkeep changes."""
EXPORTED_AT_ONCE = 20
"""Texts that are read at a time; each may be of a million characters."""
PUBLISHED_AT_ONCE = 20

FIRST_ID = str(UUID(int=0))


UPHELD = "[removed after review]"
"""What stands in the place of an answer that was held and is not given back."""


class EventStore:
    """Reads and writes `moderation.events`. Each method is one statement, with its entry in the audit.

    All methods raise DomainError DEPENDENCY_UNAVAILABLE when the database does not answer.
    """

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def record(self, events: Sequence[Event]) -> None:
        """Store events; those that are there already stay as they are."""
        if events:
            await self._database.statement(sql.RECORD, event_parameters(events))

    async def get(self, event_id: str, *, reviewer: str) -> ReviewedEvent:
        """One event with its text.

        Raises:
            DomainError: EVENT_NOT_FOUND.
        """
        event = await self._touch(sql.VIEW, actor=reviewer, what="view", id=event_id)
        if event is None:
            raise _not_found(event_id)
        return event

    async def list(
        self, selection: Selection, *, reviewer: str, limit: int, before: tuple[datetime, str] | None
    ) -> Sequence[ReviewedEvent]:
        """Up to `limit` events without their texts, newest first, that come after the position `before`.

        Args:
            selection: Which.
            reviewer: Who asks.
            limit: How many.
            before: When the last event of the page before was made, and its id.
        """
        now = self._clock.now()
        condition: LiteralString = ""
        parameters: dict[str, Any] = {
            "now": now,
            "actor": reviewer,
            "detail": _said(selection),
            "limit": limit,
            "category": selection.category,
            "user": selection.user_id,
            "generation": selection.generation_id,
        }
        if selection.state is not None:
            condition += sql.BY_STATE[selection.state.value]
        if selection.category:
            condition += " AND category = %(category)s"
        if selection.user_id:
            condition += " AND user_id = %(user)s"
        if selection.generation_id:
            condition += " AND generation_id = %(generation)s"
        if selection.appealed:
            condition += " AND appealed"
        if before is not None:
            condition += " AND (created_at, id) < (%(time)s, %(before)s::UUID)"
            parameters |= {"time": before[0], "before": before[1]}
        rows = await self._database.statement(
            sql.LIST + condition + " ORDER BY created_at DESC, id DESC LIMIT %(limit)s", parameters
        )
        return [reviewed_from(row, now=now) for row in rows]

    async def claim(self, event_id: str, *, reviewer: str, lease: timedelta) -> ReviewedEvent:
        """Take one event, or the one that is next when `event_id` is empty, until the lease is over.

        Raises:
            DomainError: EVENT_NOT_FOUND, also when nothing waits; WRONG_EVENT_STATE when somebody else has it, or it is
                decided.
        """
        until = self._clock.now() + lease
        if event_id:
            event = await self._touch(sql.CLAIM, actor=reviewer, what="claim", id=event_id, until=until)
            return event or await self._refuse(event_id)
        event = await self._touch(sql.CLAIM_NEXT, actor=reviewer, what="claim", until=until)
        if event is None:
            raise DomainError(Reason.EVENT_NOT_FOUND, "No event waits for a reviewer.", metadata={"event_id": ""})
        return event

    async def release(self, event_id: str, *, reviewer: str) -> ReviewedEvent:
        """Give back what `reviewer` has claimed.

        Raises:
            DomainError: EVENT_NOT_FOUND; WRONG_EVENT_STATE when it is not claimed by them.
        """
        event = await self._touch(sql.RELEASE, actor=reviewer, what="release", id=event_id)
        return event or await self._refuse(event_id)

    async def decide(
        self, event_id: str, *, reviewer: str, decision: Decision, comment: str, category: str
    ) -> ReviewedEvent:
        """Decide on what `reviewer` has claimed. To say the same again changes nothing.

        Raises:
            DomainError: EVENT_NOT_FOUND; WRONG_EVENT_STATE when it is not claimed by them, or not any more.
        """
        event = await self._touch(
            sql.DECIDE,
            actor=reviewer,
            what="decide",
            detail=decision.value,
            id=event_id,
            decision=decision.value,
            comment=comment,
            category=category,
        )
        if event is not None:
            return event
        stands = await self._peek(event_id)
        if (stands.decision, stands.decided_by, stands.comment) == (decision, reviewer, comment):
            return stands
        raise _wrong_state(stands)

    async def appeal(self, event_id: str, *, user_id: str, appeal: str) -> ReviewedEvent:
        """Put an event of this user into the queue, before those without an appeal.

        One that was decided against the user is decided anew.

        Raises:
            DomainError: EVENT_NOT_FOUND, also when it is another user's; WRONG_EVENT_STATE when the user has appealed
                before, or was found right.
        """
        event = await self._touch(sql.APPEAL, actor=user_id, what="appeal", id=event_id, appeal=appeal)
        if event is not None:
            return event
        stands = await self._peek(event_id)
        if stands.event.subject.user_id != user_id:
            raise _not_found(event_id)
        raise _wrong_state(stands)

    async def audit(self, event_id: str) -> Sequence[AuditEntry]:
        """What was done with an event, oldest first.

        Raises:
            DomainError: EVENT_NOT_FOUND.
        """
        await self._peek(event_id)
        rows = await self._database.statement(sql.AUDIT, {"id": event_id})
        return [AuditEntry(*row) for row in rows]

    async def export(self, *, reviewer: str, after: tuple[datetime, str], until: datetime) -> Sequence[DecidedText]:
        """Some of the decided events whose texts are kept, oldest decision first; none when there are no more.

        Args:
            reviewer: Who asks.
            after: When the last one before these was decided, and its id; `FIRST_ID` for any of that time.
            until: Only what was decided up to then.
        """
        rows = await self._database.statement(
            sql.EXPORT,
            {
                "now": self._clock.now(),
                "actor": reviewer,
                "what": "export",
                "detail": "",
                "after_time": after[0],
                "after_id": after[1],
                "until": until,
                "limit": EXPORTED_AT_ONCE,
            },
        )
        return [
            DecidedText(str(row[0]), row[1], Direction(row[2]), row[4] or row[3], row[5], Decision(row[6]))
            for row in rows
        ]

    async def unpublished(self) -> Sequence[LateVerdict]:
        """Some of the decisions that give a text back, or refuse what was held, and that nobody was told of."""
        rows = await self._database.statement(sql.UNPUBLISHED, {"limit": PUBLISHED_AT_ONCE})
        return [_late_verdict(row) for row in rows]

    async def published(self, event_id: str) -> None:
        """Note that a decision was told."""
        await self._database.statement(sql.PUBLISHED, {"id": event_id})

    async def forget_texts(self) -> int:
        """Forget texts whose time is over; not those that are still to be given back. Returns how many."""
        return await self._in_batches(sql.FORGET, now=self._clock.now())

    async def delete_older(self, age: timedelta) -> int:
        """Delete events of that age with their audit, whatever their state. Returns how many."""
        before = self._clock.now() - age
        await self._in_batches(sql.DELETE_OLD_LISTS, before=before)
        return await self._in_batches(sql.DELETE_OLD, before=before)

    async def delete_user(self, user_id: str) -> int:
        """Delete all events of a user with their audit. Returns how many."""
        return await self._in_batches(sql.DELETE_OF_USER, user=user_id)

    async def queue(self) -> tuple[int, float]:
        """How many events are in the queue, and for how many seconds the oldest has been."""
        ((count, since),) = await self._database.statement(sql.QUEUE)
        return count, max(0.0, (self._clock.now() - since).total_seconds()) if since else 0.0

    async def _in_batches(self, statement: LiteralString, **parameters: Any) -> int:
        changed = 0
        while rows := await self._database.statement(statement, {**parameters, "limit": AT_ONCE}):
            changed += len(rows)
        return changed

    async def _touch(
        self, statement: LiteralString, *, actor: str, what: str, detail: str = "", **parameters: Any
    ) -> ReviewedEvent | None:
        now = self._clock.now()
        rows = await self._database.statement(
            statement, {"now": now, "actor": actor, "what": what, "detail": detail, **parameters}
        )
        return reviewed_from(rows[0], now=now) if rows else None

    async def _peek(self, event_id: str) -> ReviewedEvent:
        """An event for those who are told its state only."""
        rows = await self._database.statement(sql.PEEK, {"id": event_id})
        if not rows:
            raise _not_found(event_id)
        return reviewed_from(rows[0], now=self._clock.now())

    async def _refuse(self, event_id: str) -> ReviewedEvent:
        raise _wrong_state(await self._peek(event_id))


def _said(selection: Selection) -> str:
    """What was listed, for the audit: a user by the hash of their id, for the entry outlives the user's data."""
    words = [
        f"state={selection.state.value}" if selection.state else "",
        f"category={selection.category}" if selection.category else "",
        f"user_sha256={hashlib.sha256(selection.user_id.encode()).hexdigest()}" if selection.user_id else "",
        f"generation={selection.generation_id}" if selection.generation_id else "",
        "appealed" if selection.appealed else "",
    ]
    return " ".join(word for word in words if word)


def _not_found(event_id: str) -> DomainError:
    return DomainError(Reason.EVENT_NOT_FOUND, "No such event.", metadata={"event_id": event_id})


def _wrong_state(stands: ReviewedEvent) -> DomainError:
    metadata = {"event_id": stands.event.event_id, "state": stands.state.value}
    match stands.state:
        case EventState.CLAIMED:
            metadata["claimed_by"] = stands.claimed_by
            message = f"The event is claimed by {stands.claimed_by}."
        case EventState.DECIDED:
            message = "The event is decided."
        case EventState.PENDING if stands.appealed_at is not None:
            message = "The event waits, with its user's appeal; nobody has claimed it, or the claim is over."
        case EventState.PENDING:
            message = "The event waits; nobody has claimed it, or the claim is over."
        case _:
            message = "The event is closed; claim it first."
    return DomainError(Reason.WRONG_EVENT_STATE, message, metadata=metadata)


def _late_verdict(row: Row) -> LateVerdict:
    event_id, generation_id, user_id, direction, category, policy_version, decision, text = row
    upheld = decision == Decision.UPHOLD.value
    return LateVerdict(
        event_id=str(event_id),
        generation_id=generation_id,
        user_id=user_id,
        action=LateAction.RETRACT if upheld else LateAction.RESTORE,
        direction=Direction(direction),
        category=category,
        policy_version=policy_version,
        replacement=UPHELD if upheld else "",
        text="" if upheld else text,
    )
