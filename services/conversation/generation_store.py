"""Who runs which generation, in the database, and what users ask of generations.

A server is alive as long as it says so; the generations of one that is not belong to whoever claims them first, at the
next epoch.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

from services.conversation.late_model import Revision, revision_from_json
from services.conversation.model import Generation, GenerationState, Message
from services.conversation.rows import MESSAGE, message_from
from services.conversation.store import conversation_key
from services.runtime.database import Database, Row
from services.runtime.errors import DomainError, Reason

LEASE_S = 4.0
"""Seconds that a server may be silent before others take its generations over."""
CLAIM = 64
"""Generations that one server claims at a time; those that claim at the same time get different ones."""


@dataclass(frozen=True, slots=True)
class Owned:
    """A generation that this server owns by the database."""

    epoch: int
    stop_requested: bool


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """How a generation ended: the answer, and the position of its terminal event."""

    message: Message
    last_seq: int
    revision: Revision | None = None
    """What a late verdict has changed since."""


class GenerationStore:
    """Generations between servers. `owner` is this life of this server, `name` the same over its restarts.

    Args:
        database: For what users ask.
        owner: This life of this server.
        name: This server.
        leases: For what servers say of themselves, which must not wait behind what users ask; none: the same.
    """

    def __init__(self, *, database: Database, owner: str, name: str, leases: Database | None = None) -> None:
        self.owner = owner
        self.address = ""
        """gRPC target at which the other servers reach this one; empty as long as it is not known."""
        self._database = database
        self._leases = leases or database
        self._name = name

    async def beat(self, *, begun: Sequence[str] = ()) -> dict[str, Owned]:
        """Say that this server is alive, and of which of its generations something is in a log by now.

        Returns:
            The open generations that it owns.
        """
        rows = await self._leases.statement(
            _BEAT,
            {
                "owner": self.owner,
                "name": self._name,
                "address": self.address,
                "lease": LEASE_S,
                "begun": list(begun),
            },
            timeout_s=LEASE_S,
        )
        return {str(id_): Owned(epoch, stop) for id_, epoch, stop in rows}

    async def tidy(self) -> None:
        """Remove servers that died long ago and own nothing, and add those that own something and never said so.

        These are dead, unless they say within their lease that they live.
        """
        await self._leases.statement(_FORGET_DEAD)
        await self._leases.statement(_ADD_UNKNOWN, {"lease": LEASE_S})

    async def retire(self) -> None:
        """Say that this server is gone; what it owns is free at once."""
        await self._leases.statement(
            "UPDATE conversation.servers SET alive_until = now() - INTERVAL '1 second' WHERE owner = %(owner)s",
            {"owner": self.owner},
        )

    async def claim(self, *, own: bool, others: bool) -> Sequence[str]:
        """Take over generations whose owner is gone, or has given them up. No more than `CLAIM` of them.

        Args:
            own: Those of another life of this server, which is dead for sure at the start of this one only.
            others: Those of servers that are silent.
        """
        rows = await self._leases.statement(
            _CLAIM, {"owner": self.owner, "name": self._name, "own": own, "others": others, "limit": CLAIM}
        )
        return [str(row[0]) for row in rows]

    async def release(self, generation_id: str) -> None:
        """Give up a generation that is not run, for anybody to claim."""
        await self._leases.statement(
            "UPDATE conversation.generations SET owner = ''"
            " WHERE id = %(id)s AND owner = %(owner)s AND status = 'open'",
            {"id": generation_id, "owner": self.owner},
        )

    async def mark_gap(self, generation_ids: Sequence[str], *, gap: bool) -> None:
        """Say whether the logs of these generations lack what was shown."""
        await self._leases.statement(
            "UPDATE conversation.generations SET log_gap = %(gap)s WHERE id = ANY(%(ids)s::UUID[])"
            " AND owner = %(owner)s AND status = 'open'",
            {"ids": list(generation_ids), "gap": gap, "owner": self.owner},
        )

    async def get(self, *, user_id: str, generation_id: str) -> Generation:
        """Read a generation.

        Raises:
            DomainError: GENERATION_NOT_FOUND, also when its conversation is deleted.
        """
        rows = await self._database.statement(
            "SELECT " + _GENERATION + " FROM conversation.generations g"
            " WHERE id = %(id)s AND user_id = %(user)s AND " + _SEEN,
            {"id": generation_key(generation_id), "user": user_id},
        )
        if not rows:
            raise generation_not_found(generation_id)
        return _generation_from(rows[0])

    async def list(
        self,
        *,
        user_id: str,
        conversation_id: str,
        state: GenerationState | None,
        limit: int,
        before: tuple[datetime, str] | None,
    ) -> Sequence[Generation]:
        """Up to `limit` generations, last begun first, that come after the position `before`."""
        conditions: LiteralString = " WHERE user_id = %(user)s AND " + _SEEN
        parameters: dict[str, Any] = {"user": user_id, "limit": limit}
        if conversation_id:
            conditions += " AND conversation_id = %(conversation)s"
            parameters["conversation"] = conversation_key(conversation_id)
        if state is not None:
            conditions += " AND status = %(state)s"
            parameters["state"] = state.value
        if before is not None:
            conditions += " AND (created_at, id) < (%(created)s, %(id)s)"
            parameters |= {"created": before[0], "id": before[1]}
        rows = await self._database.statement(
            "SELECT "
            + _GENERATION
            + " FROM conversation.generations g"
            + conditions
            + " ORDER BY created_at DESC, id DESC LIMIT %(limit)s",
            parameters,
        )
        return [_generation_from(row) for row in rows]

    async def request_stop(self, *, user_id: str, generation_id: str) -> tuple[Generation, str, str]:
        """Write down that a generation shall stop.

        Returns it, its owner, and where that is reached; empty when nowhere.

        Raises:
            DomainError: GENERATION_NOT_FOUND, also when its conversation is deleted.
        """
        rows = await self._database.statement(
            "UPDATE conversation.generations AS g SET stop_requested = true"
            " WHERE id = %(id)s AND user_id = %(user)s AND " + _SEEN + " RETURNING " + _GENERATION + ","
            " g.owner,"
            " (SELECT s.address FROM conversation.servers s WHERE s.owner = g.owner AND s.alive_until > now())",
            {"id": generation_key(generation_id), "user": user_id},
        )
        if not rows:
            raise generation_not_found(generation_id)
        *generation, owner, address = rows[0]
        return _generation_from(tuple(generation)), owner, address or ""

    async def ended(self, generation_id: str) -> StoredAnswer | None:
        """The answer of a generation that has ended; None while it is open.

        Raises:
            DomainError: GENERATION_NOT_FOUND, also when the turn was refused before it began.
        """
        rows = await self._database.statement(
            "SELECT g.status, g.last_seq, g.revision, "
            + ", ".join("m." + column.strip() for column in MESSAGE.split(","))
            + " FROM conversation.generations g"
            " JOIN conversation.messages m ON m.conversation_id = g.conversation_id AND m.id = g.message_id"
            " WHERE g.id = %(id)s",
            {"id": generation_key(generation_id)},
        )
        if not rows:
            raise generation_not_found(generation_id)
        status, last_seq, revision, *message = rows[0]
        if status == "open":
            return None
        return StoredAnswer(
            message_from(tuple(message)), last_seq or 3, revision_from_json(revision) if revision else None
        )


def generation_key(generation_id: str) -> uuid.UUID:
    """The id as the database holds it.

    Raises:
        DomainError: GENERATION_NOT_FOUND, for what is no id is nobody's generation.
    """
    try:
        return uuid.UUID(generation_id)
    except ValueError as error:
        raise generation_not_found(generation_id) from error


def generation_not_found(generation_id: str) -> DomainError:
    """The error for a generation that is not there, or not this user's."""
    return DomainError(
        Reason.GENERATION_NOT_FOUND, "There is no such generation.", metadata={"generation_id": generation_id[:64]}
    )


_GENERATION: LiteralString = (
    "g.id, g.conversation_id, g.user_message_id, g.message_id, g.status, g.epoch, g.requested_model, g.created_at,"
    " g.finished_at, g.status <> 'open' AND g.revision ->> 'length' IS NOT NULL"
)

_SEEN: LiteralString = (
    "EXISTS (SELECT 1 FROM conversation.conversations c WHERE c.id = g.conversation_id AND c.deleted_at IS NULL)"
)
"""What is in a deleted conversation is out of sight."""


def _generation_from(row: Row) -> Generation:
    return Generation(
        id=str(row[0]),
        conversation_id=str(row[1]),
        user_message_id=str(row[2]),
        message_id=str(row[3]),
        state=GenerationState(row[4]),
        epoch=row[5],
        requested_model=row[6],
        created_at=row[7],
        finished_at=row[8],
        revised=bool(row[9]),
    )


_BEAT: LiteralString = """
WITH s AS (
    INSERT INTO conversation.servers (owner, name, address, alive_until)
    VALUES (%(owner)s, %(name)s, %(address)s, now() + %(lease)s * INTERVAL '1 second')
    ON CONFLICT (owner) DO UPDATE
    SET alive_until = excluded.alive_until, address = excluded.address, name = excluded.name
    RETURNING owner
), b AS (
    UPDATE conversation.generations SET begun = true
    WHERE id = ANY(%(begun)s::UUID[]) AND owner = %(owner)s AND status = 'open' RETURNING id
)
SELECT id, epoch, stop_requested FROM conversation.generations WHERE owner = %(owner)s AND status = 'open'
"""

_CLAIM: LiteralString = """
WITH orphans AS (
    SELECT id FROM conversation.generations
    WHERE status = 'open' AND owner = ANY(ARRAY(
        SELECT owner FROM conversation.servers
        WHERE owner <> %(owner)s AND (%(own)s AND name = %(name)s OR %(others)s AND alive_until < now())
        UNION ALL SELECT ''
    ))
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE conversation.generations AS g SET epoch = g.epoch + 1, owner = %(owner)s
FROM orphans AS o WHERE g.id = o.id
RETURNING g.id
"""
"""From the servers to the generations: few are dead, and those that live have many. It is an array and not a join, so
that PostgreSQL looks up each of them in the index, whatever it expects them to have.
"""

_FORGET_DEAD: LiteralString = """
DELETE FROM conversation.servers AS s
WHERE s.alive_until < now() - INTERVAL '1 day' AND NOT EXISTS (
    SELECT 1 FROM conversation.generations g WHERE g.owner = s.owner AND g.status = 'open'
)
"""

_ADD_UNKNOWN: LiteralString = """
INSERT INTO conversation.servers (owner, name, address, alive_until)
SELECT g.owner, g.owner, '', now() + %(lease)s * INTERVAL '1 second'
FROM (SELECT DISTINCT owner FROM conversation.generations WHERE status = 'open' AND owner <> '') AS g
WHERE NOT EXISTS (SELECT 1 FROM conversation.servers s WHERE s.owner = g.owner)
ON CONFLICT (owner) DO NOTHING
"""
