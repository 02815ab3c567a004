"""Copies a branch into a new conversation."""

from __future__ import annotations

import json
import uuid
from typing import Any, LiteralString

import psycopg

from services.conversation.model import Conversation
from services.conversation.places import ALONG_STRETCHES, along, message_not_found
from services.conversation.rows import CONVERSATION, conversation_from
from services.conversation.snapshot import SHOWN_TO_OTHERS, Snapshot, SnapshotReader, share_not_found
from services.conversation.store import request_id_reused
from services.runtime.clock import Clock, new_id
from services.runtime.database import Database

_COPIES = uuid.UUID("5b0f2a52-2e3d-4a5e-9d3c-6f0f6a3f4c11")
"""Namespace of the ids of copies."""
COPY_TIMEOUT_S = 120.0
"""How long it may take to copy a branch, which may have very many messages."""


class ForkStore:
    """Copies branches. The copy has nothing to do with its source any more."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._snapshots = SnapshotReader(database=database)

    async def fork(
        self, *, user_id: str, conversation_id: str, message_id: str, title: str, request_id: str
    ) -> Conversation:
        """Copy the branch that ends in a message; the same copy for the same request_id.

        Args:
            message_id: Empty for the newest message of the branch that is shown.
            title: Empty takes the old one.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND, MESSAGE_NOT_FOUND, REQUEST_ID_REUSED, CONVERSATION_BUSY when the
                message is still being written.
        """
        copy_id = _copy_id(user_id, request_id, "fork", conversation_id, message_id, title)
        if made := await self._made_before(user_id, request_id, copy_id):
            return made
        source = await self._snapshots.own(user_id=user_id, conversation_id=conversation_id, message_id=message_id)
        made = await self._copy(
            _FORK, source, user_id=user_id, request_id=request_id, copy_id=copy_id, title=title or source.title
        )
        if made is None:
            # It was there a moment ago.
            raise message_not_found(source.message_id)
        return made

    async def continue_shared(self, *, user_id: str, token: str, request_id: str) -> Conversation:
        """Copy what a link shows into a conversation of another user; the same copy for the same request_id.

        The copy has what the link shows and no more: nothing of the owner's, not even ids. It names no model, for this
        user may not have the owner's.

        Raises:
            DomainError: SHARE_NOT_FOUND, REQUEST_ID_REUSED.
        """
        copy_id = _copy_id(user_id, request_id, "share", token)
        if made := await self._made_before(user_id, request_id, copy_id):
            return made
        source = await self._snapshots.shared(token)
        made = await self._copy(
            _CONTINUE, source, user_id=user_id, request_id=request_id, copy_id=copy_id, title=source.title
        )
        if made is None:
            raise share_not_found()
        return made

    async def _copy(
        self, query: LiteralString, source: Snapshot, *, user_id: str, request_id: str, copy_id: str, title: str
    ) -> Conversation | None:
        parameters: dict[str, Any] = {
            "depth": source.depth,
            "id": copy_id,
            "user": user_id,
            "title": title,
            "request": request_id or None,
            "now": self._clock.now(),
            **along(source.conversation_id, source.path.stretches(1, source.depth)),
        }
        try:
            rows = await self._database.statement(query, parameters, timeout_s=COPY_TIMEOUT_S)
        except psycopg.errors.UniqueViolation:
            rows = []
        if rows:
            return conversation_from(rows[0])
        # The same request may have made it meanwhile.
        return await self._made_before(user_id, request_id, copy_id)

    async def _made_before(self, user_id: str, request_id: str, copy_id: str) -> Conversation | None:
        if not request_id:
            return None
        rows = await self._database.statement(
            "SELECT " + CONVERSATION + " FROM conversation.conversations"
            " WHERE user_id = %(user)s AND request_id = %(request)s",
            {"user": user_id, "request": request_id},
        )
        if not rows:
            return None
        made = conversation_from(rows[0])
        if made.id != copy_id or made.deleted_at is not None:
            raise request_id_reused(request_id)
        return made


def _copy_id(user_id: str, request_id: str, *asked: str) -> str:
    """The id of a copy says what was asked for, so that a request_id that comes back with something else is noticed."""
    if not request_id:
        return new_id()
    return str(uuid.uuid5(_COPIES, json.dumps([user_id, request_id, *asked])))


_NEW_CONVERSATION: LiteralString = """
INSERT INTO conversation.conversations
    (id, user_id, title, model, system_prompt, request_id, source_conversation_id, created_at, updated_at,
     last_sequence, leaf_message_id, leaf_depth, affinity_id, last_replica_id)
"""
_ON_CONFLICT: LiteralString = " ON CONFLICT (user_id, request_id) DO NOTHING RETURNING " + CONVERSATION
_LEAF: LiteralString = "(SELECT count(*) FROM copied)"
_LAST: LiteralString = "(SELECT id FROM copied ORDER BY depth DESC LIMIT 1)"

_FORK: LiteralString = (
    """
WITH copied AS MATERIALIZED (
    SELECT gen_random_uuid() AS id, m.depth, m.role, m.content, m.status, m.generation_id, m.model, m.finish_reason,
        m.prompt_tokens, m.completion_tokens, m.cached_tokens, m.route, m.error, m.created_at,
        coalesce(m.origin_generation_id, m.generation_id) AS origin
"""
    + ALONG_STRETCHES
    + "), c AS ("
    + _NEW_CONVERSATION
    + """
    SELECT %(id)s::UUID, user_id, %(title)s, model, system_prompt, %(request)s::UUID, id, %(now)s, %(now)s,
        %(depth)s, """
    + _LAST
    + """, %(depth)s, coalesce(affinity_id, id), last_replica_id
    FROM conversation.conversations
    WHERE id = %(source)s::UUID AND user_id = %(user)s AND %(depth)s = """
    + _LEAF
    + _ON_CONFLICT
    + """
), m AS (
    INSERT INTO conversation.messages
        (conversation_id, sequence, id, parent_id, role, content, status, generation_id, model, finish_reason,
         prompt_tokens, completion_tokens, cached_tokens, route, error, created_at, user_id, depth,
         origin_generation_id)
    SELECT %(id)s::UUID, depth, id, lag(id) OVER (ORDER BY depth), role, content, status, generation_id, model,
        finish_reason, prompt_tokens, completion_tokens, cached_tokens, route, error, created_at, %(user)s, depth,
        origin
    FROM copied WHERE EXISTS (SELECT 1 FROM c)
    RETURNING id
)
SELECT """
    + CONVERSATION
    + " FROM c"
)

_CONTINUE: LiteralString = (
    """
WITH copied AS MATERIALIZED (
    SELECT gen_random_uuid() AS id, gen_random_uuid() AS generation_id, row_number() OVER (ORDER BY m.depth) AS depth,
        m.role, m.content, m.status, m.model, m.finish_reason, m.created_at,
        coalesce(m.origin_generation_id, m.generation_id) AS origin
"""
    + ALONG_STRETCHES
    + " WHERE "
    + SHOWN_TO_OTHERS
    + "), c AS ("
    + _NEW_CONVERSATION
    + """
    SELECT %(id)s::UUID, %(user)s, %(title)s, '', '', %(request)s::UUID, NULL::UUID, %(now)s, %(now)s,
    """
    + _LEAF
    + ", "
    + _LAST
    + ", "
    + _LEAF
    + ", NULL::UUID, '' WHERE EXISTS (SELECT 1 FROM copied)"
    + _ON_CONFLICT
    + """
), m AS (
    INSERT INTO conversation.messages
        (conversation_id, sequence, id, parent_id, role, content, status, generation_id, model, finish_reason,
         created_at, user_id, depth, origin_generation_id)
    SELECT %(id)s::UUID, depth, id, lag(id) OVER (ORDER BY depth), role, content, status, generation_id, model,
        finish_reason, created_at, %(user)s, depth, origin
    FROM copied WHERE EXISTS (SELECT 1 FROM c)
    RETURNING id
)
SELECT """
    + CONVERSATION
    + " FROM c"
)
