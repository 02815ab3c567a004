"""Deletes for good: conversations whose grace period is over, and all data of users who ask for it.

Nothing here holds many rows at once. A conversation may have a million messages, and one statement over all of them
would keep locks for minutes; so they go in batches, and the conversation itself last.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import LiteralString

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.conversation.log_store import log_key
from services.conversation.peers.review import ReviewPeer
from services.conversation.peers.usage import UsagePeer
from services.runtime.clock import Clock, new_id
from services.runtime.database import Database
from services.runtime.errors import DomainError
from services.runtime.identity import Identity, current_scope, enter_scope

_log = logging.getLogger(__name__)

SWEEP_S = 60.0
"""How often it is looked for what is due."""
INTERRUPTED_AFTER_S = 60.0
"""A deletion of a user's data that is not done after so long was interrupted, and is taken up by whoever sees it."""
ROWS = 5_000
"""Rows of one statement, at most."""
CONVERSATIONS = 50
"""Conversations that are taken at a time. Small ones go together in one statement, with all that belongs to them."""
_SMALL = ROWS // CONVERSATIONS
PATIENCE_S = 5.0
"""How long a deletion of a user's data waits for the answers that run and for the settlement of those that ran."""
POLL_S = 0.1
"""How often it looks meanwhile."""
LOGS_KEPT = timedelta(hours=25)
"""Logs of generations that began before this are gone by themselves."""
_PURGED = datetime(1970, 1, 1, tzinfo=UTC)
"""When a conversation was due that is being purged: on no server's clock can it be undeleted any more."""

_MARK: LiteralString = """
UPDATE conversation.conversations SET deleted_at = coalesce(deleted_at, %(now)s), purge_at = %(now)s
WHERE id IN (
    SELECT id FROM conversation.conversations WHERE user_id = %(user)s AND created_at <= %(until)s
        AND (purge_at IS NULL OR purge_at > %(now)s) LIMIT %(limit)s
)
RETURNING id
"""
_CLAIM: LiteralString = """
UPDATE conversation.conversations SET purge_at = %(purged)s
WHERE purge_at <= %(now)s AND id IN (
    SELECT id FROM conversation.conversations WHERE purge_at <= %(now)s ORDER BY purge_at LIMIT %(limit)s
)
RETURNING id, last_sequence
"""
_CLAIM_OF_USER: LiteralString = """
UPDATE conversation.conversations SET purge_at = %(purged)s
WHERE purge_at <= %(now)s AND id IN (
    SELECT id FROM conversation.conversations WHERE user_id = %(user)s AND purge_at <= %(now)s LIMIT %(limit)s
)
RETURNING id, last_sequence
"""
_UNSETTLED: LiteralString = """
SELECT id FROM conversation.generations WHERE user_id = %(user)s AND id = ANY(%(ids)s::UUID[]) AND status = 'open'
UNION ALL
SELECT generation_id FROM conversation.usage_outbox WHERE user_id = %(user)s AND generation_id = ANY(%(ids)s::UUID[])
LIMIT 1
"""
_RENAME_USE: LiteralString = "UPDATE conversation.usage_outbox SET user_id = %(name)s WHERE user_id = %(user)s"
_PARTS: Sequence[LiteralString] = (
    "DELETE FROM conversation.generations WHERE id IN"
    " (SELECT id FROM conversation.generations WHERE conversation_id = %(id)s LIMIT %(limit)s) RETURNING id",
    "DELETE FROM conversation.feedback WHERE conversation_id = %(id)s AND message_id IN"
    " (SELECT message_id FROM conversation.feedback WHERE conversation_id = %(id)s LIMIT %(limit)s)"
    " RETURNING message_id",
    "DELETE FROM conversation.branches WHERE conversation_id = %(id)s AND branch IN"
    " (SELECT branch FROM conversation.branches WHERE conversation_id = %(id)s LIMIT %(limit)s) RETURNING branch",
)
"""What a large conversation has besides its messages. Its shares go with it: there are few."""


class Purger:
    """Deletes for good. Run `run` as a task; what one process leaves unfinished, any other finishes."""

    def __init__(
        self, *, database: Database, usage: UsagePeer, review: ReviewPeer, redis: Redis | None, clock: Clock
    ) -> None:
        self._database = database
        self._usage = usage
        self._review = review
        self._redis = redis
        self._clock = clock

    async def run(self) -> None:
        """Purge what is due, for ever."""
        while True:
            # Not all servers at the same moment.
            await asyncio.sleep(SWEEP_S * (0.5 + random.random()))
            await self.sweep()

    async def sweep(self) -> None:
        """Finish deletions of users' data that were interrupted, and purge the conversations that are due."""
        try:
            interrupted = await self._database.statement(
                "SELECT user_id, requested_at FROM conversation.user_deletions WHERE requested_at < %(before)s"
                " ORDER BY requested_at LIMIT %(limit)s",
                {"before": self._clock.now() - timedelta(seconds=INTERRUPTED_AFTER_S), "limit": CONVERSATIONS},
            )
        except DomainError as error:
            _log.warning("nothing can be purged now", extra={"reason": error.reason.value})
            return
        for user_id, requested_at in interrupted:
            try:
                await self._delete_user(user_id, requested_at=requested_at, until=requested_at)
            except DomainError as error:
                # Its turn comes again; it must not hold up the others.
                _log.warning("a user's data is not deleted yet", extra={"reason": error.reason.value})
        try:
            await self._purge()
        except DomainError as error:
            _log.warning("deleted conversations are not purged yet", extra={"reason": error.reason.value})

    async def delete_user(self, user_id: str) -> int:
        """Delete all of a user's data. Returns the number of conversations.

        What the user writes after that stays. When this is interrupted the rest is done in the background; what the
        user has is out of sight at once.

        Raises:
            DomainError: DEPENDENCY_UNAVAILABLE.
        """
        now = self._clock.now()
        await self._database.statement(
            "INSERT INTO conversation.user_deletions (user_id, requested_at) VALUES (%(user)s, %(now)s)"
            " ON CONFLICT (user_id) DO UPDATE SET requested_at = %(now)s",
            {"user": user_id, "now": now},
        )
        # All that is there, also what a server whose clock is ahead has just written.
        return await self._delete_user(user_id, requested_at=now, until=datetime.max.replace(tzinfo=UTC))

    async def _delete_user(self, user_id: str, *, requested_at: datetime, until: datetime) -> int:
        # First, so that nothing new begins in them.
        count = await self._mark(user_id, until)
        recent = await self._recent_generations(user_id, until)
        await self._stop(user_id, recent)
        await self._delete_logs(recent)
        await self._database.statement(
            "DELETE FROM conversation.user_settings WHERE user_id = %(user)s AND updated_at <= %(until)s",
            {"user": user_id, "until": until},
        )
        name = f"forgotten-{new_id()}"
        leftover = {"user": user_id, "name": name, "until": until, "recent": recent}
        await self._database.statement(_RENAME_USE + " AND ended_at <= %(until)s", leftover)
        await self._purge(user_id)
        # Last, for all that was settled under the name must be there.
        await self._forget_elsewhere(user_id)
        # Of those that have not stopped in time.
        await self._database.statement(_RENAME_USE + " AND generation_id = ANY(%(recent)s::UUID[])", leftover)
        await self._database.statement(
            "DELETE FROM conversation.exposures WHERE user_id = %(user)s AND created_at <= %(until)s", leftover
        )
        # They may have written their whole logs anew. By now they are nobody's.
        await self._delete_logs(recent)
        await self._database.statement(
            "DELETE FROM conversation.user_deletions WHERE user_id = %(user)s AND requested_at = %(requested)s",
            {"user": user_id, "requested": requested_at},
        )
        return count

    async def _stop(self, user_id: str, generation_ids: Sequence[str]) -> None:
        """End the answers that run, and wait a while until what they used is settled under the user's name.

        Their servers see the wish with their next beat. What is not settled then is settled under another name, and
        does not count for the day any more.
        """
        asked = {"user": user_id, "ids": list(generation_ids)}
        await self._database.statement(
            "UPDATE conversation.generations SET stop_requested = true"
            " WHERE user_id = %(user)s AND id = ANY(%(ids)s::UUID[]) AND status = 'open'",
            asked,
        )
        loop = asyncio.get_running_loop()
        give_up = loop.time() + PATIENCE_S
        while await self._database.statement(_UNSETTLED, asked):
            if loop.time() > give_up:
                _log.warning("a user's data is deleted while an answer runs or is not settled")
                return
            await asyncio.sleep(POLL_S)

    async def _mark(self, user_id: str, until: datetime) -> int:
        """Take a user's conversations out of sight. Returns how many there were."""
        marked = 0
        parameters = {"user": user_id, "until": until, "now": self._clock.now(), "limit": ROWS}
        while rows := await self._database.statement(_MARK, parameters):
            marked += len(rows)
        return marked

    async def _forget_elsewhere(self, user_id: str) -> None:
        async def call() -> None:
            # For the user and in a task of its own: what is finished in the background has no caller to pass on.
            enter_scope(replace(current_scope(), identity=Identity(user_id)))
            await self._usage.forget_user()
            await self._review.forget_user()

        await asyncio.create_task(call())

    async def _recent_generations(self, user_id: str, until: datetime) -> Sequence[str]:
        rows = await self._database.statement(
            "SELECT id FROM conversation.generations WHERE user_id = %(user)s AND created_at > %(since)s"
            " AND created_at <= %(until)s",
            {"user": user_id, "since": self._clock.now() - LOGS_KEPT, "until": until},
        )
        return [str(generation_id) for (generation_id,) in rows]

    async def _delete_logs(self, generation_ids: Sequence[str]) -> None:
        if self._redis is None:
            return
        try:
            for first in range(0, len(generation_ids), ROWS):
                batch = generation_ids[first : first + ROWS]
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for generation_id in batch:
                        # One key a command: they lie on different nodes of a cluster.
                        pipeline.unlink(log_key(generation_id))
                    await pipeline.execute()
        except (RedisError, OSError) as error:
            # They end by themselves, and nobody can ask for them: their generations are gone.
            _log.warning("logs of generations are left to expire", extra={"error": type(error).__name__})

    async def _purge(self, user_id: str | None = None) -> None:
        """Delete the conversations that are due, of one user or of all."""
        parameters = {"user": user_id, "purged": _PURGED, "now": self._clock.now(), "limit": CONVERSATIONS}
        claim = _CLAIM if user_id is None else _CLAIM_OF_USER
        while rows := await self._database.statement(claim, parameters):
            for conversation_id, last_sequence in rows:
                if last_sequence > _SMALL:
                    await self._empty(conversation_id, last_sequence)
            await self._database.statement(
                "DELETE FROM conversation.conversations WHERE id = ANY(%(ids)s::UUID[])",
                {"ids": [row[0] for row in rows]},
            )

    async def _empty(self, conversation_id: object, last_sequence: int) -> None:
        """Delete what a large conversation holds."""
        [(first,)] = await self._database.statement(
            "SELECT coalesce(min(sequence), 1) FROM conversation.messages WHERE conversation_id = %(id)s",
            {"id": conversation_id},
        )
        for low in range(first, last_sequence + 1, ROWS):
            await self._database.statement(
                "DELETE FROM conversation.messages WHERE conversation_id = %(id)s"
                " AND sequence >= %(low)s AND sequence < %(high)s",
                {"id": conversation_id, "low": low, "high": low + ROWS},
            )
        for delete in _PARTS:
            while await self._database.statement(delete, {"id": conversation_id, "limit": ROWS}):
                pass
