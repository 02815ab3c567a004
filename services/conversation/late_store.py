"""What late verdicts make of stored questions and answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, LiteralString

from psycopg.types.json import Jsonb

from services.conversation.chat_model import FinishReason
from services.conversation.convert import error_summary, error_to_json
from services.conversation.generation_store import generation_key
from services.conversation.late_model import (
    LateVerdict,
    Revision,
    late_refusal,
    retraction,
    revision_from_json,
    revision_to_json,
)
from services.conversation.model import MessageStatus
from services.conversation.turn_finish import GENERATION_STATE
from services.runtime.database import Connection, Database, Row


class Effect(StrEnum):
    """What a verdict has led to."""

    UNKNOWN = "unknown"
    """There is no such generation, or it is not this user's."""
    OUTDATED = "outdated"
    """A later verdict took effect before."""
    WANTED = "wanted"
    """The answer is being generated; whoever runs it must end it, and nobody can store it as anything else."""
    REVISED = "revised"
    """What is stored says it."""
    NOTHING = "nothing"
    """Nobody has kept what shall be given back, or a person has let pass what shall be taken back."""
    NOT_YET = "not_yet"
    """What shall be given back is still being generated."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A generation whose row is locked."""

    id: object
    conversation_id: object
    question_id: object
    answer_id: object
    open: bool
    last_seq: int
    revision: Revision | None
    answer_status: str
    answer_length: int
    cleared: bool

    def revised_by(self, revision: Revision) -> bool:
        """Whether this is what it was made last, after its end."""
        return self.revision is not None and replace(self.revision, length=None) == revision


class LateStore:
    """Applies late verdicts, each once, in the order in which they were decided, whoever reads them when."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def apply(self, entry: str, verdict: LateVerdict) -> Effect:
        """Store what a verdict says.

        Args:
            entry: Where it stands among the others: later ones are greater. What is as late as the last that took
                effect on the same text leads to what that has led to.
            verdict: What it says.

        Raises:
            DomainError: GENERATION_NOT_FOUND for what is no id.
        """
        key = generation_key(verdict.generation_id)

        async def work(connection: Connection) -> Effect:
            cursor = await connection.execute(_LOCK, {"id": key, "user": verdict.user_id})
            row = await cursor.fetchone()
            if row is None:
                return Effect.UNKNOWN
            found = _found(row)
            last = row[7] if verdict.of_input else row[8]
            if last > entry:
                return Effect.OUTDATED
            if last == entry:
                return Effect.WANTED if found.open else Effect.REVISED
            if found.open and not verdict.retract:
                return Effect.NOT_YET
            await connection.execute(
                _NOTE_INPUT if verdict.of_input else _NOTE_OUTPUT, {"id": found.id, "entry": entry}
            )
            return await (_retract if verdict.retract else _restore)(connection, found, verdict)

        return await self._database.run(work)


async def _retract(connection: Connection, found: _Found, verdict: LateVerdict) -> Effect:
    if verdict.of_input and found.cleared:
        # A person has looked at it, and that counts more than what a model says of it when it is answered again.
        return Effect.NOTHING
    if verdict.of_input:
        refusal = late_refusal("This message", verdict.category, verdict.policy_version, verdict.event_id)
        await _revise_question(
            connection,
            found,
            {
                "status": MessageStatus.BLOCKED.value,
                "error": Jsonb(error_to_json(error_summary(refusal))),
                "cleared": False,
            },
        )
    revision = retraction(verdict)
    if found.open:
        await connection.execute(_WANT, {"id": found.id, "revision": Jsonb(revision_to_json(revision))})
        return Effect.WANTED
    answer = {
        "content": verdict.replacement,
        "status": MessageStatus.BLOCKED.value,
        "finish_reason": FinishReason.CONTENT_FILTER.value,
        "error": Jsonb(error_to_json(revision.error)),
    }
    await _revise_answer(connection, found, revision, answer)
    return Effect.REVISED


async def _restore(connection: Connection, found: _Found, verdict: LateVerdict) -> Effect:
    if verdict.of_input:
        await _revise_question(
            connection,
            found,
            {
                "status": MessageStatus.COMPLETED.value,
                "error": None,
                "cleared": True,
                "content": verdict.text or None,
            },
        )
        return Effect.REVISED
    if not verdict.text:
        return Effect.NOTHING
    refused = found.answer_status in (MessageStatus.BLOCKED, MessageStatus.HELD)
    answer = {
        "content": verdict.text,
        "status": MessageStatus.COMPLETED.value if refused else found.answer_status,
        "finish_reason": FinishReason.STOP.value if refused else None,
        "error": None,
    }
    await _revise_answer(connection, found, retraction(verdict), answer)
    return Effect.REVISED


async def _revise_question(connection: Connection, found: _Found, changes: dict[str, Any]) -> None:
    parameters = {"content": None, **changes, "message": found.question_id, "conversation": found.conversation_id}
    await connection.execute(_REVISE_QUESTION, parameters)
    await connection.execute(_REVISE_COPIES_OF_QUESTION, parameters)


async def _revise_answer(connection: Connection, found: _Found, revision: Revision, changes: dict[str, Any]) -> None:
    if found.revised_by(revision) and changes["status"] == found.answer_status:
        # The same verdict in another entry.
        return
    # Readers may have what it says now, or what it said before that.
    before = found.revision.length if found.revision is not None else None
    revision = replace(revision, length=max(before or 0, found.answer_length))
    await connection.execute(
        _REVISE_GENERATION,
        {
            "id": found.id,
            "state": GENERATION_STATE[MessageStatus(changes["status"])].value,
            "revision": Jsonb(revision_to_json(revision)),
            # One position for what has changed, one for the end.
            "last_seq": found.last_seq + 2,
        },
    )
    parameters = {
        **changes,
        "message": found.answer_id,
        "conversation": found.conversation_id,
        "generation": found.id,
    }
    await connection.execute(_REVISE_ANSWER, parameters)
    await connection.execute(_REVISE_COPIES_OF_ANSWER, parameters)


def _found(row: Row) -> _Found:
    return _Found(
        id=row[0],
        conversation_id=row[1],
        question_id=row[2],
        answer_id=row[3],
        open=row[4] == "open",
        # Where a replay from the database ends when nobody knows better.
        last_seq=row[5] or 3,
        revision=revision_from_json(row[6]) if row[6] else None,
        answer_status=row[9],
        answer_length=row[10],
        cleared=row[11],
    )


_LOCK: LiteralString = """
SELECT g.id, g.conversation_id, g.user_message_id, g.message_id, g.status, g.last_seq, g.revision, g.late_input,
    g.late_output, m.status, char_length(m.content), q.cleared
FROM conversation.generations AS g
JOIN conversation.messages AS m ON m.conversation_id = g.conversation_id AND m.id = g.message_id
JOIN conversation.messages AS q ON q.conversation_id = g.conversation_id AND q.id = g.user_message_id
WHERE g.id = %(id)s AND g.user_id = %(user)s
FOR UPDATE
"""
"""All rows, for what a statement that waited sees of a row that it does not lock is old."""

_NOTE_INPUT: LiteralString = "UPDATE conversation.generations SET late_input = %(entry)s WHERE id = %(id)s"
_NOTE_OUTPUT: LiteralString = "UPDATE conversation.generations SET late_output = %(entry)s WHERE id = %(id)s"

_WANT: LiteralString = """
UPDATE conversation.generations SET revision = %(revision)s, stop_requested = true WHERE id = %(id)s
"""

_REVISE_GENERATION: LiteralString = """
UPDATE conversation.generations SET status = %(state)s, revision = %(revision)s, last_seq = %(last_seq)s
WHERE id = %(id)s
"""

_ANSWER: LiteralString = """
UPDATE conversation.messages
SET content = %(content)s, status = %(status)s, finish_reason = coalesce(%(finish_reason)s, finish_reason),
    error = %(error)s
"""
_REVISE_ANSWER: LiteralString = _ANSWER + "WHERE conversation_id = %(conversation)s AND id = %(message)s"
_REVISE_COPIES_OF_ANSWER: LiteralString = _ANSWER + "WHERE origin_generation_id = %(generation)s AND role = 'assistant'"

_QUESTION: LiteralString = """
UPDATE conversation.messages
SET status = %(status)s, error = %(error)s, cleared = %(cleared)s,
    -- What was refused is kept as it was sent; what was let through may have been redacted.
    content = CASE WHEN status = 'completed' THEN coalesce(%(content)s, content) ELSE content END
"""
_REVISE_QUESTION: LiteralString = _QUESTION + "WHERE conversation_id = %(conversation)s AND id = %(message)s"
_REVISE_COPIES_OF_QUESTION: LiteralString = (
    _QUESTION
    + """WHERE role = 'user' AND origin_generation_id = (
    SELECT q.generation_id FROM conversation.messages AS q
    WHERE q.conversation_id = %(conversation)s AND q.id = %(message)s
)"""
)
