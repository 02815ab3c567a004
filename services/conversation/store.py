"""Conversations and their messages in the database. Nobody sees what is somebody else's."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import LiteralString

from services.conversation.model import Conversation, ConversationOrder
from services.conversation.rows import CONVERSATION, conversation_from
from services.runtime.clock import Clock, new_id
from services.runtime.database import Database
from services.runtime.errors import DomainError, Reason

DELETE_GRACE = timedelta(days=30)
"""How long a deleted conversation can be undeleted, unless the settings say otherwise."""


class ConversationStore:
    """What a user does with conversations between turns.

    A deleted conversation keeps its rows until it is purged. Whoever reads or writes a conversation asks for
    `deleted_at IS NULL`; only the list of deleted ones and `undelete` see it.
    """

    def __init__(self, *, database: Database, clock: Clock, delete_grace: timedelta = DELETE_GRACE) -> None:
        self._database = database
        self._clock = clock
        self._delete_grace = delete_grace

    async def create(
        self, *, user_id: str, title: str, model: str, system_prompt: str, request_id: str
    ) -> Conversation:
        """Store a new conversation; the one that this request_id made before, if it did."""
        parameters = {
            "id": new_id(),
            "user": user_id,
            "title": title,
            "model": model,
            "prompt": system_prompt,
            "request": request_id or None,
            "now": self._clock.now(),
        }
        rows = await self._database.statement(
            "INSERT INTO conversation.conversations"
            " (id, user_id, title, model, system_prompt, request_id, created_at, updated_at)"
            " VALUES (%(id)s, %(user)s, %(title)s, %(model)s, %(prompt)s, %(request)s, %(now)s, %(now)s)"
            " ON CONFLICT (user_id, request_id) DO NOTHING RETURNING " + CONVERSATION,
            parameters,
        )
        if rows:
            return conversation_from(rows[0])
        rows = await self._database.statement(
            "SELECT " + CONVERSATION + " FROM conversation.conversations"
            " WHERE user_id = %(user)s AND request_id = %(request)s AND deleted_at IS NULL",
            parameters,
        )
        if not rows:
            # It was deleted since.
            raise request_id_reused(request_id)
        found = conversation_from(rows[0])
        if (found.title, found.model, found.system_prompt) != (title, model, system_prompt) and _unchanged(found):
            raise request_id_reused(request_id)
        return found

    async def give_title(self, conversation_id: str, title: str) -> None:
        """Title a conversation that has no title yet. That is no change that would move it to the front of lists."""
        await self._database.statement(
            "UPDATE conversation.conversations SET title = %(title)s WHERE id = %(id)s AND title = ''",
            {"id": conversation_id, "title": title},
        )

    async def get(self, *, user_id: str, conversation_id: str) -> Conversation:
        """Read a conversation.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND.
        """
        rows = await self._database.statement(
            "SELECT " + CONVERSATION + " FROM conversation.conversations"
            " WHERE id = %(id)s AND user_id = %(user)s AND deleted_at IS NULL",
            {"id": conversation_key(conversation_id), "user": user_id},
        )
        if not rows:
            raise conversation_not_found(conversation_id)
        return conversation_from(rows[0])

    async def list(
        self,
        *,
        user_id: str,
        limit: int,
        before: tuple[datetime, str] | None,
        order: ConversationOrder = ConversationOrder.UPDATED,
        pinned: bool | None = None,
        archived: bool = False,
        deleted: bool = False,
    ) -> Sequence[Conversation]:
        """Read up to `limit` conversations, newest first, that come after the position `before`.

        Args:
            user_id: Whose.
            limit: Greatest number to read.
            before: Time and id of the last conversation of the page before; the time is the one of the order.
            order: By the time of creation, which never changes, or by that of the last change, which only grows.
            pinned: Only those that are pinned, or that are not; None for both.
            archived: Those that are archived, in place of those that are not.
            deleted: Those that are deleted and can be undeleted, archived or not.
        """
        by_creation = order is ConversationOrder.CREATED
        condition: LiteralString = (
            " AND deleted_at IS NOT NULL AND purge_at > %(now)s"
            if deleted
            else " AND deleted_at IS NULL AND archived = %(archived)s"
        )
        if pinned is not None:
            condition += " AND pinned = %(pinned)s"
        if before is not None:
            condition += (
                " AND (created_at, id) < (%(time)s, %(id)s)"
                if by_creation
                else " AND (updated_at, id) < (%(time)s, %(id)s)"
            )
        time, id_ = before or (None, None)
        rows = await self._database.statement(
            "SELECT "
            + CONVERSATION
            + " FROM conversation.conversations WHERE user_id = %(user)s"
            + condition
            + (" ORDER BY created_at DESC, id DESC" if by_creation else " ORDER BY updated_at DESC, id DESC")
            + " LIMIT %(limit)s",
            {
                "user": user_id,
                "limit": limit,
                "time": time,
                "id": id_,
                "pinned": pinned,
                "archived": archived,
                "now": self._clock.now(),
            },
        )
        return [conversation_from(row) for row in rows]

    async def update(
        self,
        *,
        user_id: str,
        conversation_id: str,
        title: str | None,
        model: str | None,
        system_prompt: str | None,
        pinned: bool | None = None,
        archived: bool | None = None,
    ) -> Conversation:
        """Change what is not None. To pin or to archive is no change that moves a conversation to the front.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND.
        """
        rows = await self._database.statement(
            _UPDATE,
            {
                "id": conversation_key(conversation_id),
                "user": user_id,
                "title": title,
                "model": model,
                "prompt": system_prompt,
                "pinned": pinned,
                "archived": archived,
                "moves": any(value is not None for value in (title, model, system_prompt)),
                "now": self._clock.now(),
            },
        )
        if not rows:
            raise conversation_not_found(conversation_id)
        return conversation_from(rows[0])

    async def delete(self, *, user_id: str, conversation_id: str) -> None:
        """Delete a conversation, for good once the grace period is over. A turn that runs in it ends as usual.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND, also when it is deleted already.
        """
        now = self._clock.now()
        rows = await self._database.statement(
            "UPDATE conversation.conversations SET deleted_at = %(now)s, purge_at = %(purge)s"
            " WHERE id = %(id)s AND user_id = %(user)s AND deleted_at IS NULL RETURNING id",
            {"id": conversation_key(conversation_id), "user": user_id, "now": now, "purge": now + self._delete_grace},
        )
        if not rows:
            raise conversation_not_found(conversation_id)

    async def undelete(self, *, user_id: str, conversation_id: str) -> Conversation:
        """Take a deletion back; a conversation that is not deleted stays as it is.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND, also when the grace period is over.
        """
        rows = await self._database.statement(
            "UPDATE conversation.conversations SET deleted_at = NULL, purge_at = NULL"
            " WHERE id = %(id)s AND user_id = %(user)s AND (deleted_at IS NULL OR purge_at > %(now)s) RETURNING "
            + CONVERSATION,
            {"id": conversation_key(conversation_id), "user": user_id, "now": self._clock.now()},
        )
        if not rows:
            raise conversation_not_found(conversation_id)
        return conversation_from(rows[0])


_UPDATE: LiteralString = (
    """
UPDATE conversation.conversations
SET title = coalesce(%(title)s, title), model = coalesce(%(model)s, model),
    system_prompt = coalesce(%(prompt)s, system_prompt), pinned = coalesce(%(pinned)s, pinned),
    archived = coalesce(%(archived)s, archived),
    -- Never back, where the clocks of two servers differ: a page would bring again what a page before it had.
    updated_at = CASE WHEN %(moves)s THEN greatest(updated_at, %(now)s) ELSE updated_at END
WHERE id = %(id)s AND user_id = %(user)s AND deleted_at IS NULL
RETURNING """
    + CONVERSATION
)


def conversation_key(conversation_id: str) -> uuid.UUID:
    """The id as the database holds it.

    Raises:
        DomainError: CONVERSATION_NOT_FOUND, for what is no id is nobody's conversation.
    """
    try:
        return uuid.UUID(conversation_id)
    except ValueError as error:
        raise conversation_not_found(conversation_id) from error


def conversation_not_found(conversation_id: str) -> DomainError:
    """The error for a conversation that is not there, or not this user's."""
    return DomainError(
        Reason.CONVERSATION_NOT_FOUND,
        "There is no such conversation.",
        metadata={"conversation_id": conversation_id[:64]},
    )


def request_id_reused(request_id: str) -> DomainError:
    """The error for a request_id that stands for something else already."""
    return DomainError(
        Reason.REQUEST_ID_REUSED,
        "This request_id was used for another request; take a new one for each message.",
        metadata={"request_id": request_id},
    )


def _unchanged(conversation: Conversation) -> bool:
    return conversation.created_at == conversation.updated_at
