"""Reads conversations for an export, and stores those of an import."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from services.conversation.convert import error_to_json
from services.conversation.model import Conversation, Feedback, Message, Rating
from services.conversation.places import path_from
from services.conversation.rows import CONVERSATION, MESSAGE, conversation_from, message_from
from services.conversation.store import conversation_key
from services.conversation.transfer.export_window import Run
from services.conversation.transfer.imported import BrokenConversationError, ImportedConversation
from services.conversation.transfer.placing import Placed
from services.conversation.tree import Path
from services.runtime.clock import new_id
from services.runtime.database import RUN_TIMEOUT_S, STATEMENT_TIMEOUT_S, Connection, Database, Row

CONVERSATIONS = 100
"""How many are read at once."""
WINDOW_BYTES = 1024 * 1024
"""Of text that is read at once; one message more than that, since one may be longer."""
_CHUNK_MESSAGES = 500
_CHUNK_CHARACTERS = 500_000
"""What one statement stores; turning it into parameters holds up everything else."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A conversation, and the way to its newest message that is shown."""

    conversation: Conversation
    path: Path
    depth: int


@dataclass(frozen=True, slots=True)
class Window:
    """Messages in order, each with the number of its conversation. Not `complete`: there are more of these runs."""

    messages: Sequence[tuple[int, Message]]
    complete: bool


class TransferStore:
    """Conversations as a whole. Nobody sees what is somebody else's."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def conversations(
        self, *, user_id: str, conversation_id: str, before: tuple[datetime, str] | None
    ) -> Sequence[Shown]:
        """A page of the user's conversations, newest first, that come after the position `before`.

        Args:
            conversation_id: Only this one; empty for all.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND when that is no id.
        """
        condition: LiteralString = ""
        parameters: dict[str, Any] = {"user": user_id, "limit": CONVERSATIONS}
        if conversation_id:
            condition += " AND c.id = %(id)s"
            parameters["id"] = conversation_key(conversation_id)
        if before is not None:
            condition += " AND (c.created_at, c.id) < (%(time)s, %(last)s::UUID)"
            parameters |= {"time": before[0], "last": before[1]}
        rows = await self._database.statement(
            "SELECT c.leaf_depth, b.path_branches, b.path_starts, "
            + ", ".join("c." + column.strip() for column in CONVERSATION.split(","))
            + " FROM conversation.conversations c"
            " LEFT JOIN conversation.branches b ON b.conversation_id = c.id AND b.branch = c.leaf_branch"
            " WHERE c.user_id = %(user)s AND c.deleted_at IS NULL"
            + condition
            + " ORDER BY c.created_at DESC, c.id DESC LIMIT %(limit)s",
            parameters,
        )
        return [_shown(row) for row in rows]

    async def messages(self, runs: Sequence[Run], *, along_branches: bool) -> Window:
        """The messages of some runs, with their feedback, as far as they fit into a window.

        Args:
            along_branches: The positions are depths on a branch, and not sequences.
        """
        rows = await self._database.statement(
            _WINDOW_OF_DEPTHS if along_branches else _WINDOW_OF_SEQUENCES,
            {
                "numbers": [run.number for run in runs],
                "ids": [run.conversation_id for run in runs],
                "branches": [run.branch for run in runs],
                "lows": [run.low for run in runs],
                "highs": [run.high for run in runs],
                "bytes": WINDOW_BYTES,
            },
        )
        return Window([(row[1], _rated_message(row[2:])) for row in rows], not rows or rows[0][0] == len(rows))

    async def store(
        self, *, user_id: str, conversation_id: str, imported: ImportedConversation, placed: Placed
    ) -> bool:
        """Store a conversation, all or nothing. False when it is there already, be it as it was exported.

        Raises:
            BrokenConversationError: when the database cannot hold it.
        """
        ids = await asyncio.to_thread(lambda: [new_id() for _ in imported.messages])
        chunks = list(_chunks(imported))
        parameters = _conversation_parameters(user_id, conversation_id, imported, placed, ids)

        async def work(connection: Connection) -> bool:
            try:
                first = _message_parameters(imported, placed, ids, chunks[0])
                cursor = await connection.execute(_CREATE, parameters | first)
                if await cursor.fetchone() is None:
                    return False
                for chunk in chunks[1:]:
                    more = _message_parameters(imported, placed, ids, chunk)
                    await connection.execute(_MORE, {"id": conversation_id, "user": user_id} | more)
            except psycopg.errors.ProgramLimitExceeded:
                raise BrokenConversationError("A message has too many different words.") from None
            except psycopg.DataError:
                raise BrokenConversationError("It has a value that cannot be stored.") from None
            return True

        # A conversation may be of any length.
        return await self._database.run(work, timeout_s=RUN_TIMEOUT_S + STATEMENT_TIMEOUT_S * len(chunks))


def _shown(row: Row) -> Shown:
    depth, branches, starts = row[:3]
    return Shown(conversation_from(row[3:]), path_from(branches, starts), depth)


def _rated_message(row: Row) -> Message:
    rating, reason, comment, updated_at = row[:4]
    feedback = None if rating is None else Feedback(Rating(rating), reason, comment, updated_at)
    return replace(message_from(row[4:]), feedback=feedback)


def _chunks(imported: ImportedConversation) -> Iterator[range]:
    """Indexes of messages that are stored by one statement; at least one range, which may be empty."""
    start = characters = 0
    for index, message in enumerate(imported.messages):
        characters += len(message.content)
        if index > start and (index - start >= _CHUNK_MESSAGES or characters > _CHUNK_CHARACTERS):
            yield range(start, index)
            start, characters = index, len(message.content)
    yield range(start, len(imported.messages))


def _conversation_parameters(
    user_id: str, conversation_id: str, imported: ImportedConversation, placed: Placed, ids: Sequence[str]
) -> dict[str, Any]:
    current = imported.current
    rated = [(id_, m.feedback) for id_, m in zip(ids, imported.messages, strict=True) if m.feedback is not None]
    return {
        "id": conversation_id,
        "user": user_id,
        "original": _uuid(imported.source_id),
        "title": imported.title,
        "model": imported.model,
        "prompt": imported.system_prompt,
        "pinned": imported.pinned,
        "archived": imported.archived,
        "created": imported.created_at,
        "updated": imported.updated_at,
        "count": len(ids),
        "leaf": ids[current] if current >= 0 else None,
        "leaf_branch": placed.places[current].branch if current >= 0 else 0,
        "leaf_depth": placed.places[current].depth if current >= 0 else 0,
        "next_branch": len(placed.paths) + 1,
        "paths": list(placed.paths),
        # As text: the database knows no array of arrays of different lengths.
        "path_branches": [_array(path.branches) for path in placed.paths.values()],
        "path_starts": [_array(path.starts) for path in placed.paths.values()],
        "rated": [id_ for id_, _ in rated],
        "ratings": [feedback.rating.value for _, feedback in rated],
        "reasons": [feedback.reason for _, feedback in rated],
        "comments": [feedback.comment for _, feedback in rated],
        "rating_times": [feedback.updated_at for _, feedback in rated],
    }


def _message_parameters(
    imported: ImportedConversation, placed: Placed, ids: Sequence[str], indexes: range
) -> dict[str, Any]:
    messages = [imported.messages[index] for index in indexes]
    parents = [imported.parents[index] for index in indexes]
    places = [placed.places[index] for index in indexes]
    usages = [message.usage for message in messages]
    return {
        "sequences": [index + 1 for index in indexes],
        "ids": [ids[index] for index in indexes],
        "parents": [ids[parent] if parent >= 0 else None for parent in parents],
        "roles": [message.role.value for message in messages],
        "contents": [message.content for message in messages],
        "statuses": [message.status.value for message in messages],
        "models": [message.model for message in messages],
        "finish_reasons": [message.finish_reason.value for message in messages],
        "prompt_tokens": [usage.prompt_tokens if usage else None for usage in usages],
        "completion_tokens": [usage.completion_tokens if usage else None for usage in usages],
        "cached_tokens": [usage.cached_tokens if usage else None for usage in usages],
        "errors": [Jsonb(error_to_json(message.error)) if message.error else None for message in messages],
        "times": [message.created_at for message in messages],
        "branches": [place.branch for place in places],
        "depths": [place.depth for place in places],
    }


def _array(values: Sequence[int]) -> str:
    return "{" + ",".join(map(str, values)) + "}"


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


_COLUMNS: LiteralString = ", ".join("m." + column.strip() for column in MESSAGE.split(","))
_WINDOW_HEAD: LiteralString = (
    "SELECT m.total, m.number, f.rating, f.reason, f.comment, f.updated_at, "
    + _COLUMNS
    + """
FROM (
    SELECT r.number, count(*) OVER () AS total, """
    + _COLUMNS
    + ","
)
_RUNS: LiteralString = """
    FROM unnest(%(numbers)s::INT8[], %(ids)s::UUID[], %(branches)s::INT8[], %(lows)s::INT8[], %(highs)s::INT8[])
        AS r (number, conversation_id, branch, low, high)
    JOIN conversation.messages m ON m.conversation_id = r.conversation_id
"""
# The length of a text is known without reading it, so what does not fit into the window is not read.
_WINDOW_OF_SEQUENCES: LiteralString = (
    _WINDOW_HEAD
    + """
        sum(octet_length(m.content)) OVER (ORDER BY r.number, m.sequence) - octet_length(m.content) AS bytes_before
"""
    + _RUNS
    + """
        AND m.sequence >= r.low AND m.sequence <= r.high
) AS m
LEFT JOIN conversation.feedback f ON f.conversation_id = m.conversation_id AND f.message_id = m.id
WHERE m.bytes_before < %(bytes)s ORDER BY m.number, m.sequence
"""
)
_WINDOW_OF_DEPTHS: LiteralString = (
    _WINDOW_HEAD
    + """
        sum(octet_length(m.content)) OVER (ORDER BY r.number, m.depth) - octet_length(m.content) AS bytes_before
"""
    + _RUNS
    + """
        AND m.branch = r.branch AND m.depth >= r.low AND m.depth <= r.high
) AS m
LEFT JOIN conversation.feedback f ON f.conversation_id = m.conversation_id AND f.message_id = m.id
WHERE m.bytes_before < %(bytes)s ORDER BY m.number, m.depth
"""
)

_INSERT_MESSAGES: LiteralString = """
INSERT INTO conversation.messages
    (conversation_id, sequence, id, parent_id, role, content, status, generation_id, model, finish_reason,
     prompt_tokens, completion_tokens, cached_tokens, error, created_at, user_id, branch, depth)
SELECT %(id)s::UUID, sequence, id, parent_id, role, content, status, gen_random_uuid(), model, finish_reason,
    prompt_tokens, completion_tokens, cached_tokens, error, created_at, %(user)s, branch, depth
FROM unnest(%(sequences)s::INT8[], %(ids)s::UUID[], %(parents)s::UUID[], %(roles)s::TEXT[], %(contents)s::TEXT[],
        %(statuses)s::TEXT[], %(models)s::TEXT[], %(finish_reasons)s::TEXT[], %(prompt_tokens)s::INT8[],
        %(completion_tokens)s::INT8[], %(cached_tokens)s::INT8[], %(errors)s::JSONB[], %(times)s::TIMESTAMPTZ[],
        %(branches)s::INT8[], %(depths)s::INT8[])
    AS n (sequence, id, parent_id, role, content, status, model, finish_reason, prompt_tokens, completion_tokens,
        cached_tokens, error, created_at, branch, depth)
"""
_MORE: LiteralString = _INSERT_MESSAGES
_CREATE: LiteralString = (
    """
WITH c AS (
    INSERT INTO conversation.conversations
        (id, user_id, title, model, system_prompt, pinned, archived, created_at, updated_at, last_sequence,
         leaf_message_id, leaf_branch, leaf_depth, next_branch)
    SELECT %(id)s::UUID, %(user)s, %(title)s, %(model)s, %(prompt)s, %(pinned)s, %(archived)s, %(created)s, %(updated)s,
        %(count)s, %(leaf)s::UUID, %(leaf_branch)s, %(leaf_depth)s, %(next_branch)s
    WHERE NOT EXISTS (
        SELECT 1 FROM conversation.conversations WHERE id = %(original)s::UUID AND user_id = %(user)s
    )
    ON CONFLICT (id) DO NOTHING RETURNING id
), b AS (
    INSERT INTO conversation.branches (conversation_id, branch, path_branches, path_starts)
    SELECT %(id)s::UUID, branch, path_branches::INT8[], path_starts::INT8[]
    FROM unnest(%(paths)s::INT8[], %(path_branches)s::TEXT[], %(path_starts)s::TEXT[])
        AS p (branch, path_branches, path_starts)
    WHERE EXISTS (SELECT 1 FROM c)
    RETURNING branch
), f AS (
    INSERT INTO conversation.feedback (conversation_id, message_id, rating, reason, comment, updated_at)
    SELECT %(id)s::UUID, message_id, rating, reason, comment, updated_at
    FROM unnest(%(rated)s::UUID[], %(ratings)s::TEXT[], %(reasons)s::TEXT[], %(comments)s::TEXT[],
            %(rating_times)s::TIMESTAMPTZ[])
        AS f (message_id, rating, reason, comment, updated_at)
    WHERE EXISTS (SELECT 1 FROM c)
    RETURNING message_id
), m AS (
"""
    + _INSERT_MESSAGES
    + """
    WHERE EXISTS (SELECT 1 FROM c)
    RETURNING id
)
SELECT id FROM c
"""
)
