"""What users think of answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

from services.conversation.chat_model import Role
from services.conversation.message_store import MessageStore
from services.conversation.metrics import FeedbackMetrics
from services.conversation.model import Message, MessageStatus, Rating
from services.conversation.places import message_key, message_not_found
from services.conversation.snapshot import busy
from services.conversation.store import conversation_key, conversation_not_found
from services.runtime.clock import Clock
from services.runtime.database import Connection, Database
from services.runtime.errors import DomainError, Reason


@dataclass(frozen=True, slots=True)
class _Change:
    model: str
    route: dict[str, Any]
    before: Rating


class FeedbackStore:
    """Stores ratings, one per answer, and counts them by model and route."""

    def __init__(self, *, database: Database, clock: Clock, messages: MessageStore, metrics: FeedbackMetrics) -> None:
        self._database = database
        self._clock = clock
        self._messages = messages
        self._metrics = metrics

    async def rate(
        self, *, user_id: str, conversation_id: str, message_id: str, rating: Rating, reason: str, comment: str
    ) -> Message:
        """Replace what the user said of an answer; `Rating.NONE` takes it back. Returns the answer.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND, MESSAGE_NOT_FOUND, WRONG_MESSAGE_ROLE, CONVERSATION_BUSY when the
                answer is still being written.
        """
        parameters = {
            "conversation": conversation_key(conversation_id),
            "message": message_key(message_id),
            "user": user_id,
            "rating": rating.value,
            "reason": reason,
            "comment": comment,
            "now": self._clock.now(),
        }

        async def work(connection: Connection) -> _Change:
            # The message is locked, so that of two ratings at once the second sees what the first replaced.
            cursor = await connection.execute(_LOCK, parameters)
            row = await cursor.fetchone()
            if row is None:
                raise await self._explain(connection, parameters, conversation_id, message_id)
            role, status, generation_id, model, route = row
            if role != Role.ASSISTANT:
                raise _wrong_role(message_id, role)
            if status == MessageStatus.IN_PROGRESS:
                raise busy(conversation_id, str(generation_id))
            cursor = await connection.execute(_READ, parameters)
            before = await cursor.fetchone()
            await connection.execute(_REMOVE if rating is Rating.NONE else _REPLACE, parameters)
            return _Change(model, route or {}, Rating(before[0]) if before else Rating.NONE)

        change = await self._database.run(work)
        self._metrics.rated(
            before=change.before,
            after=rating,
            model=change.model,
            rule=change.route.get("rule", ""),
            engine=change.route.get("engine", ""),
        )
        return await self._messages.get(user_id=user_id, conversation_id=conversation_id, message_id=message_id)

    async def _explain(
        self, connection: Connection, parameters: dict[str, Any], conversation_id: str, message_id: str
    ) -> DomainError:
        cursor = await connection.execute(
            "SELECT 1 FROM conversation.conversations"
            " WHERE id = %(conversation)s AND user_id = %(user)s AND deleted_at IS NULL",
            parameters,
        )
        if await cursor.fetchone() is None:
            return conversation_not_found(conversation_id)
        return message_not_found(message_id)


def _wrong_role(message_id: str, role: str) -> DomainError:
    return DomainError(
        Reason.WRONG_MESSAGE_ROLE,
        "Only answers are rated; this is a message of the user.",
        metadata={"message_id": message_id, "role": role},
    )


_LOCK: LiteralString = """
SELECT m.role, m.status, m.generation_id, m.model, m.route
FROM conversation.messages m
JOIN conversation.conversations c ON c.id = m.conversation_id
WHERE m.conversation_id = %(conversation)s AND m.id = %(message)s AND c.user_id = %(user)s AND c.deleted_at IS NULL
FOR UPDATE OF m
"""
_READ: LiteralString = """
SELECT rating FROM conversation.feedback WHERE conversation_id = %(conversation)s AND message_id = %(message)s
"""
_REPLACE: LiteralString = """
INSERT INTO conversation.feedback (conversation_id, message_id, rating, reason, comment, updated_at)
VALUES (%(conversation)s, %(message)s, %(rating)s, %(reason)s, %(comment)s, %(now)s)
ON CONFLICT (conversation_id, message_id) DO UPDATE
SET rating = excluded.rating, reason = excluded.reason, comment = excluded.comment, updated_at = excluded.updated_at
"""
_REMOVE: LiteralString = """
DELETE FROM conversation.feedback WHERE conversation_id = %(conversation)s AND message_id = %(message)s
"""
