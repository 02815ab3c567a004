"""Conversations and their messages in the database. Nobody sees what is somebody else's."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString

from services.conversation.model import Conversation, Message
from services.conversation.rows import CONVERSATION, MESSAGE, conversation_from, message_from
from services.runtime.clock import Clock, new_id
from services.runtime.database import Database
from services.runtime.errors import DomainError, Reason


class ConversationStore:
    """What a user does with conversations between turns."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

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
            " WHERE user_id = %(user)s AND request_id = %(request)s",
            parameters,
        )
        if not rows:
            # It was deleted since.
            raise request_id_reused(request_id)
        found = conversation_from(rows[0])
        if (found.title, found.model, found.system_prompt) != (title, model, system_prompt) and _unchanged(found):
            raise request_id_reused(request_id)
        return found

    async def get(self, *, user_id: str, conversation_id: str) -> Conversation:
        """Read a conversation.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND.
        """
        rows = await self._database.statement(
            "SELECT " + CONVERSATION + " FROM conversation.conversations WHERE id = %(id)s AND user_id = %(user)s",
            {"id": conversation_key(conversation_id), "user": user_id},
        )
        if not rows:
            raise conversation_not_found(conversation_id)
        return conversation_from(rows[0])

    async def list(self, *, user_id: str, limit: int, before: tuple[datetime, str] | None) -> Sequence[Conversation]:
        """Read up to `limit` conversations, last changed first, that come after the position `before`."""
        parameters: dict[str, Any] = {"user": user_id, "limit": limit}
        condition: LiteralString = ""
        if before is not None:
            condition = " AND (updated_at, id) < (%(updated)s, %(id)s)"
            parameters |= {"updated": before[0], "id": before[1]}
        rows = await self._database.statement(
            "SELECT "
            + CONVERSATION
            + " FROM conversation.conversations WHERE user_id = %(user)s"
            + condition
            + " ORDER BY updated_at DESC, id DESC LIMIT %(limit)s",
            parameters,
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
    ) -> Conversation:
        """Change what is not None.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND.
        """
        rows = await self._database.statement(
            "UPDATE conversation.conversations SET title = coalesce(%(title)s, title),"
            " model = coalesce(%(model)s, model), system_prompt = coalesce(%(prompt)s, system_prompt),"
            " updated_at = %(now)s WHERE id = %(id)s AND user_id = %(user)s RETURNING " + CONVERSATION,
            {
                "id": conversation_key(conversation_id),
                "user": user_id,
                "title": title,
                "model": model,
                "prompt": system_prompt,
                "now": self._clock.now(),
            },
        )
        if not rows:
            raise conversation_not_found(conversation_id)
        return conversation_from(rows[0])

    async def delete(self, *, user_id: str, conversation_id: str) -> None:
        """Delete a conversation and all that belongs to it.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND.
        """
        rows = await self._database.statement(
            "DELETE FROM conversation.conversations WHERE id = %(id)s AND user_id = %(user)s RETURNING id",
            {"id": conversation_key(conversation_id), "user": user_id},
        )
        if not rows:
            raise conversation_not_found(conversation_id)

    async def list_messages(
        self, *, user_id: str, conversation_id: str, limit: int, after: int | None, newest_first: bool
    ) -> Sequence[Message]:
        """Read up to `limit` messages in order of their sequence, beyond the sequence `after`.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND.
        """
        conversation_id = (await self.get(user_id=user_id, conversation_id=conversation_id)).id
        condition: LiteralString = ""
        if after is not None:
            condition = " AND sequence < %(after)s" if newest_first else " AND sequence > %(after)s"
        order: LiteralString = " ORDER BY sequence DESC" if newest_first else " ORDER BY sequence"
        rows = await self._database.statement(
            "SELECT "
            + MESSAGE
            + " FROM conversation.messages WHERE conversation_id = %(id)s"
            + condition
            + order
            + " LIMIT %(limit)s",
            {"id": conversation_id, "after": after, "limit": limit},
        )
        return [message_from(row) for row in rows]


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
