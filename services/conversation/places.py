"""Finds the place of a message in the tree of its conversation, in the database."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from services.conversation.chat_model import Role
from services.conversation.model import Leaf, Message, MessageStatus, TurnKind, TurnTarget
from services.conversation.rows import MESSAGE, message_from
from services.conversation.tree import Path, Place, Stretch
from services.runtime.database import Connection, Row
from services.runtime.errors import DomainError, Reason


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the messages of a new turn go."""

    parent_id: str
    """What the first new message follows; empty when it opens the conversation."""
    first: Place
    """Place of the first new message."""
    path: Path
    """The way to the branch of the user's message."""
    opened: Path | None = None
    """The way to the branch that has to be opened; None when the turn goes on on one that is there."""
    question: Message | None = None
    """The user's message, when it is there already."""


def message_key(message_id: str) -> uuid.UUID:
    """The id as the database holds it.

    Raises:
        DomainError: MESSAGE_NOT_FOUND, for what is no id is no message.
    """
    try:
        return uuid.UUID(message_id)
    except ValueError as error:
        raise message_not_found(message_id) from error


def message_not_found(message_id: str) -> DomainError:
    """The error for a message that is not in the conversation."""
    return DomainError(
        Reason.MESSAGE_NOT_FOUND,
        "There is no such message in this conversation.",
        metadata={"message_id": message_id[:64]},
    )


def path_from(branches: list[int] | None, starts: list[int] | None) -> Path:
    """A row of `conversation.branches`; without one it is branch 0."""
    return Path(tuple(branches), tuple(starts)) if branches and starts else Path()


def along(conversation_id: uuid.UUID | str, stretches: Sequence[Stretch]) -> dict[str, Any]:
    """Parameters of `ALONG_STRETCHES`."""
    return {
        "source": conversation_id,
        "branches": [stretch.branch for stretch in stretches],
        "lows": [stretch.low for stretch in stretches],
        "highs": [stretch.high for stretch in stretches],
    }


async def find_spot(
    connection: Connection, *, conversation_id: str, target: TurnTarget, leaf: Leaf, next_branch: int
) -> Spot:
    """Find where a turn goes. The caller holds the conversation's row, so that nothing moves meanwhile.

    Raises:
        DomainError: MESSAGE_NOT_FOUND, WRONG_MESSAGE_ROLE.
    """
    if target.kind is TurnKind.REGENERATE:
        question, place = await _question_to_answer(connection, conversation_id, target.message_id)
        path, free = await _way_beyond(connection, conversation_id, place)
        if free:
            return Spot(question.id, Place(place.branch, place.depth + 1), path, question=question)
        opened = path.fork(after_depth=place.depth, branch=next_branch)
        return Spot(question.id, Place(next_branch, place.depth + 1), path, opened, question)
    if target.kind is TurnKind.EDIT:
        parent = await _parent_of_question(connection, conversation_id, target.message_id)
    elif target.message_id:
        _, parent = await _find(connection, conversation_id, target.message_id)
    else:
        parent = leaf
    path, free = await _way_beyond(connection, conversation_id, parent.place)
    depth = parent.place.depth + 1
    if free:
        return Spot(parent.message_id, Place(parent.place.branch, depth), path)
    opened = path.fork(after_depth=parent.place.depth, branch=next_branch)
    return Spot(parent.message_id, Place(next_branch, depth), opened, opened)


async def _question_to_answer(connection: Connection, conversation_id: str, message_id: str) -> tuple[Message, Place]:
    """The user's message that is named, or that the named answer follows."""
    message, leaf = await _find(connection, conversation_id, message_id)
    if message.role is Role.ASSISTANT and message.parent_id:
        message, leaf = await _find(connection, conversation_id, message.parent_id)
    if message.role is not Role.USER:
        raise _wrong_message(message, "Only an answer to a message of the user can be generated anew.")
    if message.status is not MessageStatus.COMPLETED:
        raise _wrong_message(message, "This message was refused by moderation; it cannot be answered. Edit it.")
    return message, leaf.place


async def _parent_of_question(connection: Connection, conversation_id: str, message_id: str) -> Leaf:
    message, _ = await _find(connection, conversation_id, message_id)
    if message.role is not Role.USER:
        raise _wrong_message(message, "Only messages of the user can be edited.")
    if not message.parent_id:
        return Leaf()
    return (await _find(connection, conversation_id, message.parent_id))[1]


async def _find(connection: Connection, conversation_id: str, message_id: str) -> tuple[Message, Leaf]:
    cursor = await connection.execute(
        "SELECT " + MESSAGE + ", branch FROM conversation.messages"
        " WHERE id = %(id)s AND conversation_id = %(conversation)s",
        {"id": message_key(message_id), "conversation": conversation_id},
    )
    row = await cursor.fetchone()
    if row is None:
        raise message_not_found(message_id)
    message = message_from(row[:-1])
    return message, Leaf(message.id, Place(row[-1], message.depth))


async def _way_beyond(connection: Connection, conversation_id: str, place: Place) -> tuple[Path, bool]:
    """The way to a place's branch, and whether the next place on it is free."""
    cursor = await connection.execute(
        _WAY_BEYOND, {"conversation": conversation_id, "branch": place.branch, "next": place.depth + 1}
    )
    rows: list[Row] = await cursor.fetchall()
    branches, starts, taken = rows[0]
    return path_from(branches, starts), not taken


def _wrong_message(message: Message, why: str) -> DomainError:
    return DomainError(Reason.WRONG_MESSAGE_ROLE, why, metadata={"message_id": message.id, "role": message.role.value})


_WAY_BEYOND: LiteralString = """
SELECT b.path_branches, b.path_starts, EXISTS (
    SELECT 1 FROM conversation.messages
    WHERE conversation_id = %(conversation)s::UUID AND branch = %(branch)s AND depth = %(next)s
)
FROM (SELECT 1) AS one LEFT JOIN conversation.branches AS b
    ON b.conversation_id = %(conversation)s::UUID AND b.branch = %(branch)s
"""

ALONG_STRETCHES: LiteralString = (
    """
FROM unnest(%(branches)s::INT8[], %(lows)s::INT8[], %(highs)s::INT8[]) AS s (branch, low, high)
CROSS JOIN LATERAL (
    SELECT """
    + MESSAGE
    + """, origin_generation_id FROM conversation.messages
    WHERE conversation_id = %(source)s::UUID AND branch = s.branch AND depth BETWEEN s.low AND s.high
    -- Keeps it apart: as a plain join a prepared statement reads all of a long conversation and throws most away, for
    -- its plan is made for one of the usual length.
    OFFSET 0
) AS m
"""
)
"""The messages `m` on stretches of a path in the conversation `source`, with the columns of `MESSAGE` and with
`origin_generation_id`.
"""
