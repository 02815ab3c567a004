"""Links to snapshots of conversations. Who knows a link can read what it shows, and nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from services.conversation.chat_model import Role
from services.conversation.model import Share
from services.conversation.places import ALONG_STRETCHES, along
from services.conversation.snapshot import SHOWN_TO_OTHERS, Snapshot, SnapshotReader, share_not_found
from services.conversation.store import conversation_key, conversation_not_found
from services.runtime.clock import Clock
from services.runtime.database import Database, Row
from services.runtime.errors import DomainError, Reason

MOST_SCANNED = 2000
"""Messages that one call goes through, shown or not: anybody may ask."""


@dataclass(frozen=True, slots=True)
class SharedMessage:
    """A message as others see it. `depth` is where it stands in the branch, and is not for them."""

    role: Role
    content: str
    model: str
    created_at: datetime
    depth: int


@dataclass(frozen=True, slots=True)
class SharedPage:
    """Some of what a link shows. `next_after` is where the next page begins, None on the last."""

    title: str
    created_at: datetime
    messages: Sequence[SharedMessage]
    next_after: int | None


class ShareStore:
    """Makes, lists, revokes and follows links."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._snapshots = SnapshotReader(database=database)

    async def create(self, *, user_id: str, conversation_id: str, message_id: str) -> Share:
        """Make a link to the branch that ends in a message, by default in the newest that is shown.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND, MESSAGE_NOT_FOUND when there is nothing that others could read,
                CONVERSATION_BUSY when the message is still being written.
        """
        source = await self._snapshots.own(user_id=user_id, conversation_id=conversation_id, message_id=message_id)
        if not await self._shows_anything(source):
            raise DomainError(
                Reason.MESSAGE_NOT_FOUND,
                "This branch has no message that others could read.",
                metadata={"message_id": source.message_id},
            )
        rows = await self._database.statement(
            "INSERT INTO conversation.shares (token, conversation_id, user_id, message_id, title, created_at)"
            " SELECT %(token)s, id, user_id, %(message)s::UUID, %(title)s, %(now)s FROM conversation.conversations"
            " WHERE id = %(conversation)s::UUID AND user_id = %(user)s AND deleted_at IS NULL RETURNING " + _SHARE,
            {
                "token": secrets.token_urlsafe(32),
                "conversation": source.conversation_id,
                "user": user_id,
                "message": source.message_id,
                "title": source.title,
                "now": self._clock.now(),
            },
        )
        if not rows:
            raise conversation_not_found(conversation_id)
        return _share_from(rows[0])

    async def list(
        self, *, user_id: str, conversation_id: str, limit: int, before: tuple[datetime, str] | None
    ) -> Sequence[Share]:
        """Up to `limit` links, newest first, that come after the position `before`.

        Args:
            conversation_id: Only those to it; empty for all.
            before: When the last link of the page before was made, and its token.
        """
        condition: LiteralString = ""
        parameters: dict[str, Any] = {"user": user_id, "limit": limit}
        if conversation_id:
            condition += " AND s.conversation_id = %(conversation)s"
            parameters["conversation"] = conversation_key(conversation_id)
        if before is not None:
            condition += " AND (s.created_at, s.token) < (%(time)s, %(token)s)"
            parameters |= {"time": before[0], "token": before[1]}
        rows = await self._database.statement(
            "SELECT s.token, s.conversation_id, s.message_id, s.title, s.created_at FROM conversation.shares s"
            " JOIN conversation.conversations c ON c.id = s.conversation_id AND c.deleted_at IS NULL"
            " WHERE s.user_id = %(user)s" + condition + " ORDER BY s.created_at DESC, s.token DESC LIMIT %(limit)s",
            parameters,
        )
        return [_share_from(row) for row in rows]

    async def delete(self, *, user_id: str, token: str) -> None:
        """Revoke one link.

        Raises:
            DomainError: SHARE_NOT_FOUND.
        """
        rows = await self._database.statement(
            "DELETE FROM conversation.shares WHERE token = %(token)s AND user_id = %(user)s RETURNING token",
            {"token": token, "user": user_id},
        )
        if not rows:
            raise share_not_found()

    async def delete_all(self, *, user_id: str, conversation_id: str) -> None:
        """Revoke all links to a conversation.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND.
        """
        rows = await self._database.statement(
            "WITH c AS (SELECT id FROM conversation.conversations"
            " WHERE id = %(conversation)s AND user_id = %(user)s AND deleted_at IS NULL),"
            " gone AS (DELETE FROM conversation.shares WHERE conversation_id IN (SELECT id FROM c) RETURNING token)"
            " SELECT id FROM c",
            {"conversation": conversation_key(conversation_id), "user": user_id},
        )
        if not rows:
            raise conversation_not_found(conversation_id)

    async def read(self, *, token: str, limit: int, after: int) -> SharedPage:
        """Up to `limit` messages of what a link shows, oldest first, beyond the depth `after`.

        A page may have fewer, and another follow: where much is hidden, a call does not search all of it.

        Raises:
            DomainError: SHARE_NOT_FOUND.
        """
        source = await self._snapshots.shared(token)
        messages, next_after = await self._page(source, after=max(after, 0), limit=limit)
        return SharedPage(source.title, source.created_at, messages, next_after)

    async def _shows_anything(self, source: Snapshot) -> bool:
        after: int | None = 0
        while after is not None:
            messages, after = await self._page(source, after=after, limit=1)
            if messages:
                return True
        return False

    async def _page(self, source: Snapshot, *, after: int, limit: int) -> tuple[Sequence[SharedMessage], int | None]:
        """What others may read of the branch, and where the next page begins. Costs the length of the page."""
        found: list[SharedMessage] = []
        last = min(after + MOST_SCANNED, source.depth)
        while after < last and len(found) <= limit:
            # In windows of depths: their order is known, so that a page does not cost the rest of the branch.
            end = min(after + max(limit, _LEAST_WINDOW), last)
            rows = await self._database.statement(
                _PAGE,
                {
                    "limit": limit + 1 - len(found),
                    **along(source.conversation_id, source.path.stretches(after + 1, end)),
                },
            )
            found.extend(SharedMessage(Role(row[0]), *row[1:]) for row in rows)
            after = end
        if len(found) > limit:
            return found[:limit], found[limit - 1].depth
        return found, last if last < source.depth else None


def _share_from(row: Row) -> Share:
    token, conversation_id, message_id, title, created_at = row
    return Share(token, str(conversation_id), str(message_id), title, created_at)


_LEAST_WINDOW = 50
_SHARE: LiteralString = "token, conversation_id, message_id, title, created_at"
_PAGE: LiteralString = (
    """
SELECT m.role, m.content, m.model, m.created_at, m.depth
"""
    + ALONG_STRETCHES
    + " WHERE "
    + SHOWN_TO_OTHERS
    + " ORDER BY m.depth LIMIT %(limit)s"
)
