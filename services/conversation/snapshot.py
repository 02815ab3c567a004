"""Finds the branch that ends in a message: what is copied, and what a link lets others read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from services.conversation.model import MessageStatus
from services.conversation.places import message_key, message_not_found, path_from
from services.conversation.store import conversation_key, conversation_not_found
from services.conversation.tree import Path
from services.runtime.database import Database, Row
from services.runtime.errors import DomainError, Reason

SHOWN_TO_OTHERS: LiteralString = "m.status IN ('completed', 'stopped') AND m.content <> ''"
"""Which messages `m` of a branch others may read."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A branch up to a message."""

    conversation_id: str
    message_id: str
    path: Path
    depth: int
    """Of its last message; the number of messages that it has."""
    title: str
    """Of the conversation now; of a link, as it was when that was made."""
    created_at: datetime
    """Of the conversation, or of the link."""


class SnapshotReader:
    """Finds branches. What was deleted is not there."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def own(self, *, user_id: str, conversation_id: str, message_id: str) -> Snapshot:
        """The branch of a user's conversation that ends in a message, by default in the newest that is shown.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND, MESSAGE_NOT_FOUND, CONVERSATION_BUSY when the message is still written.
        """
        rows = await self._database.statement(
            _OWN,
            {
                "conversation": conversation_key(conversation_id),
                "user": user_id,
                "message": message_key(message_id) if message_id else None,
            },
        )
        if not rows:
            raise conversation_not_found(conversation_id)
        *fields, status, generation_id = rows[0]
        if status is None:
            raise message_not_found(message_id) if message_id else _no_messages()
        if status == MessageStatus.IN_PROGRESS:
            raise busy(conversation_id, str(generation_id))
        return _snapshot_from(tuple(fields))

    async def shared(self, token: str) -> Snapshot:
        """The branch that a link leads to.

        Raises:
            DomainError: SHARE_NOT_FOUND.
        """
        rows = await self._database.statement(_SHARED, {"token": token})
        if not rows:
            raise share_not_found()
        return _snapshot_from(rows[0])


def share_not_found() -> DomainError:
    """The error for a link that leads nowhere. It never holds the token."""
    return DomainError(Reason.SHARE_NOT_FOUND, "There is no such link, or it was revoked.")


def _no_messages() -> DomainError:
    return DomainError(Reason.MESSAGE_NOT_FOUND, "This conversation has no messages yet.", metadata={"message_id": ""})


def busy(conversation_id: str, generation_id: str) -> DomainError:
    """The error for a message that is still being written."""
    return DomainError(
        Reason.CONVERSATION_BUSY,
        "This answer is being generated; wait until it has ended, or stop it.",
        metadata={"conversation_id": conversation_id, "generation_id": generation_id},
    )


def _snapshot_from(row: Row) -> Snapshot:
    conversation_id, title, created_at, message_id, depth, branches, starts = row
    return Snapshot(
        conversation_id=str(conversation_id),
        message_id=str(message_id),
        path=path_from(branches, starts),
        depth=depth,
        title=title,
        created_at=created_at,
    )


_OWN: LiteralString = """
SELECT c.id, c.title, c.created_at, m.id, m.depth, b.path_branches, b.path_starts, m.status, m.generation_id
FROM conversation.conversations c
LEFT JOIN conversation.messages m
    ON m.conversation_id = c.id AND m.id = coalesce(%(message)s::UUID, c.leaf_message_id)
LEFT JOIN conversation.branches b ON b.conversation_id = c.id AND b.branch = m.branch
WHERE c.id = %(conversation)s AND c.user_id = %(user)s AND c.deleted_at IS NULL
"""

_SHARED: LiteralString = """
SELECT c.id, s.title, s.created_at, m.id, m.depth, b.path_branches, b.path_starts
FROM conversation.shares s
JOIN conversation.conversations c ON c.id = s.conversation_id AND c.deleted_at IS NULL
JOIN conversation.messages m ON m.conversation_id = c.id AND m.id = s.message_id
LEFT JOIN conversation.branches b ON b.conversation_id = c.id AND b.branch = m.branch
WHERE s.token = %(token)s
"""
