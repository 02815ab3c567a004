"""Reads the messages of a conversation along its branches."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, LiteralString

from services.conversation.chat_model import Role
from services.conversation.model import Conversation, Feedback, Message, Rating
from services.conversation.places import ALONG_STRETCHES, along, message_key, message_not_found, path_from
from services.conversation.rows import CONVERSATION, MESSAGE, conversation_from, message_from
from services.conversation.store import conversation_key, conversation_not_found
from services.conversation.tree import Path, Stretch
from services.runtime.clock import Clock
from services.runtime.database import Connection, Database, Row
from services.runtime.errors import DomainError, Reason

_COLUMNS: LiteralString = ", ".join("m." + column.strip() for column in MESSAGE.split(","))


@dataclass(frozen=True, slots=True)
class BranchPage:
    """Messages of a branch, and the newest one of that branch."""

    messages: Sequence[Message]
    leaf_message_id: str


class MessageStore:
    """Messages between turns. Nobody sees what is somebody else's."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def get(self, *, user_id: str, conversation_id: str, message_id: str) -> Message:
        """Read a message with its siblings and feedback.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND, MESSAGE_NOT_FOUND.
        """
        id_ = conversation_key(conversation_id)
        rows = await self._database.statement(
            "SELECT "
            + _COLUMNS
            + " FROM conversation.conversations AS c"
            + " LEFT JOIN conversation.messages AS m ON m.conversation_id = c.id AND m.id = %(message)s::UUID"
            + " WHERE c.id = %(id)s AND c.user_id = %(user)s AND c.deleted_at IS NULL",
            {"id": id_, "user": user_id, "message": _key_or_none(message_id)},
        )
        if not rows:
            raise conversation_not_found(conversation_id)
        if rows[0][0] is None:
            raise message_not_found(message_id)
        return (await self._complete(id_, [message_from(rows[0])]))[0]

    async def answers(self, question: Message) -> Sequence[Message]:
        """The answers to a message, newest first; as stored, without siblings and feedback."""
        rows = await self._database.statement(
            "SELECT " + MESSAGE + " FROM conversation.messages"
            " WHERE conversation_id = %(conversation)s AND parent_id = %(parent)s ORDER BY sequence DESC",
            {"conversation": question.conversation_id, "parent": question.id},
        )
        return [message_from(row) for row in rows]

    async def list_branch(
        self,
        *,
        user_id: str,
        conversation_id: str,
        leaf_message_id: str,
        limit: int,
        after: int | None,
        newest_first: bool,
    ) -> BranchPage:
        """Up to `limit` messages of the branch that ends in a leaf, beyond the depth `after`, in order of depth.

        Args:
            leaf_message_id: Empty for the branch that is shown.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND, MESSAGE_NOT_FOUND.
        """
        id_ = conversation_key(conversation_id)
        leaf, path, depth = await self._way_to(user_id, id_, leaf_message_id)
        if newest_first:
            high = depth if after is None else min(after - 1, depth)
            low = max(high - limit + 1, 1)
        else:
            low = 1 if after is None else max(after + 1, 1)
            high = min(low + limit - 1, depth)
        stretches = path.stretches(low, high)
        messages = await self._read(id_, stretches, newest_first=newest_first) if stretches else []
        return BranchPage(await self._complete(id_, messages), leaf)

    async def select(self, *, user_id: str, conversation_id: str, message_id: str) -> Conversation:
        """Show the branch that goes through a message, down to the newest message below it.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND, MESSAGE_NOT_FOUND, CONVERSATION_BUSY.
        """
        parameters: dict[str, Any] = {
            "id": conversation_key(conversation_id),
            "user": user_id,
            "message": _key_or_none(message_id),
        }

        async def work(connection: Connection) -> Conversation:
            cursor = await connection.execute(_LOCK, parameters)
            row = await cursor.fetchone()
            if row is None:
                raise conversation_not_found(conversation_id)
            active, branch, depth = row
            if branch is None:
                raise message_not_found(message_id)
            if active is not None:
                raise DomainError(
                    Reason.CONVERSATION_BUSY,
                    "An answer is being generated in this conversation; its branch is shown until it has ended.",
                    metadata={"conversation_id": str(parameters["id"]), "generation_id": str(active)},
                )
            cursor = await connection.execute(_SHOW_NEWEST_BELOW, {**parameters, "branch": branch, "depth": depth})
            shown: list[Row] = await cursor.fetchall()
            return conversation_from(shown[0])

        return await self._database.run(work)

    async def _way_to(self, user_id: str, id_: uuid.UUID, leaf_message_id: str) -> tuple[str, Path, int]:
        """A message, or the newest that is shown: its id, the way to it, and its depth."""
        if leaf_message_id:
            parameters = {"id": id_, "user": user_id, "leaf": _key_or_none(leaf_message_id)}
            rows = await self._database.statement(_WAY_TO_MESSAGE, parameters)
        else:
            rows = await self._database.statement(_WAY_TO_LEAF, {"id": id_, "user": user_id})
        if not rows:
            raise conversation_not_found(str(id_))
        leaf, depth, branches, starts = rows[0]
        if depth is None:
            raise message_not_found(leaf_message_id)
        return str(leaf or ""), path_from(branches, starts), depth

    async def _read(self, id_: uuid.UUID, stretches: Sequence[Stretch], *, newest_first: bool) -> list[Message]:
        order: LiteralString = " ORDER BY m.depth DESC" if newest_first else " ORDER BY m.depth"
        rows = await self._database.statement(
            "SELECT " + _COLUMNS + ALONG_STRETCHES + order,
            along(id_, stretches),
        )
        return [message_from(row) for row in rows]

    async def _complete(self, id_: uuid.UUID, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages with their siblings and feedback."""
        children = await self._children(id_, messages)
        feedback = await self._feedback(id_, messages)
        return [
            replace(message, sibling_ids=children.get(message.parent_id, ()), feedback=feedback.get(message.id))
            for message in messages
        ]

    async def _children(self, id_: uuid.UUID, messages: Sequence[Message]) -> Mapping[str, tuple[str, ...]]:
        """By parent the ids of what follows it; none where that is one message."""
        rows = await self._database.statement(
            _CHILDREN,
            {
                "id": id_,
                "parents": [message.parent_id for message in messages if message.parent_id],
                "first": any(not message.parent_id for message in messages),
            },
        )
        found: defaultdict[str, list[str]] = defaultdict(list)
        for parent_id, child_id in rows:
            found[str(parent_id or "")].append(str(child_id))
        return {parent: tuple(ids) for parent, ids in found.items() if len(ids) > 1}

    async def _feedback(self, id_: uuid.UUID, messages: Sequence[Message]) -> Mapping[str, Feedback]:
        """By message. Asked for by id: in a join the planner may prefer to read all that the conversation has."""
        answers = [message.id for message in messages if message.role is Role.ASSISTANT]
        if not answers:
            return {}
        rows = await self._database.statement(
            "SELECT message_id, rating, reason, comment, updated_at FROM conversation.feedback"
            " WHERE conversation_id = %(id)s AND message_id = ANY(%(answers)s::UUID[])",
            {"id": id_, "answers": answers},
        )
        return {str(row[0]): Feedback(Rating(row[1]), *row[2:]) for row in rows}


def _key_or_none(message_id: str) -> uuid.UUID | None:
    """The id as the database holds it; None, which no message has, when it is no id."""
    try:
        return message_key(message_id)
    except DomainError:
        return None


_WAY_TO_LEAF: LiteralString = """
SELECT c.leaf_message_id, c.leaf_depth, b.path_branches, b.path_starts
FROM conversation.conversations AS c
LEFT JOIN conversation.branches AS b ON b.conversation_id = c.id AND b.branch = c.leaf_branch
WHERE c.id = %(id)s AND c.user_id = %(user)s AND c.deleted_at IS NULL
"""

_WAY_TO_MESSAGE: LiteralString = """
SELECT m.id, m.depth, b.path_branches, b.path_starts
FROM conversation.conversations AS c
LEFT JOIN conversation.messages AS m ON m.conversation_id = c.id AND m.id = %(leaf)s::UUID
LEFT JOIN conversation.branches AS b ON b.conversation_id = c.id AND b.branch = m.branch
WHERE c.id = %(id)s AND c.user_id = %(user)s AND c.deleted_at IS NULL
"""

_CHILDREN: LiteralString = """
SELECT parent_id, id FROM (
    SELECT parent_id, id, sequence FROM conversation.messages
    WHERE conversation_id = %(id)s AND parent_id = ANY(%(parents)s::UUID[])
    UNION ALL
    SELECT parent_id, id, sequence FROM conversation.messages
    WHERE %(first)s AND conversation_id = %(id)s AND parent_id IS NULL
) AS children ORDER BY sequence
"""

_LOCK: LiteralString = """
SELECT c.active_generation_id, m.branch, m.depth
FROM conversation.conversations AS c
LEFT JOIN conversation.messages AS m ON m.conversation_id = c.id AND m.id = %(message)s::UUID
WHERE c.id = %(id)s AND c.user_id = %(user)s AND c.deleted_at IS NULL
FOR UPDATE OF c
"""

_SHOW_NEWEST_BELOW: LiteralString = """
WITH below AS (
    SELECT %(branch)s::INT8 AS branch
    UNION ALL
    -- The ways that are still on the message's branch where it stands.
    SELECT branch FROM conversation.branches
    WHERE conversation_id = %(id)s
        AND path_starts[array_position(path_branches, %(branch)s::INT8) + 1] > %(depth)s
), newest AS (
    -- The last message of a branch is its newest.
    SELECT m.id, m.branch, m.depth FROM below CROSS JOIN LATERAL (
        SELECT id, branch, depth, sequence FROM conversation.messages
        WHERE conversation_id = %(id)s AND branch = below.branch ORDER BY depth DESC LIMIT 1
    ) AS m
    ORDER BY m.sequence DESC LIMIT 1
)
UPDATE conversation.conversations AS c
SET leaf_message_id = newest.id, leaf_branch = newest.branch, leaf_depth = newest.depth
FROM newest WHERE c.id = %(id)s
RETURNING """ + ", ".join("c." + column.strip() for column in CONVERSATION.split(","))
