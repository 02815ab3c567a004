"""Turns in the database: a question is stored with an open generation, an answer with its usage record.

Each write is one statement where that is possible: one round trip, and CockroachDB retries it by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb

from services.conversation.convert import error_to_json, route_to_json
from services.conversation.model import (
    ChatMessage,
    ErrorSummary,
    Message,
    MessageStatus,
    OpenTurn,
    Outcome,
    Role,
    RouteReceipt,
)
from services.conversation.rows import MESSAGE, message_from
from services.conversation.store import conversation_key, conversation_not_found, request_id_reused
from services.runtime.clock import Clock, new_id
from services.runtime.database import Connection, Database
from services.runtime.errors import DomainError, Reason

LEASE_S = 10
"""Seconds that the owner of a generation may be silent before its conversation is free again."""


@dataclass(frozen=True, slots=True)
class KnownRequest:
    """What an earlier use of a request_id led to."""

    generation_id: str
    request_hash: str
    open: bool
    answer: Message


class TurnStore:
    """What a turn writes and reads. `owner` names this process in the generations that it runs."""

    def __init__(self, *, database: Database, clock: Clock, owner: str) -> None:
        self._database = database
        self._clock = clock
        self._owner = owner

    async def history(
        self, *, conversation_id: str, before_sequence: int, limit: int
    ) -> Sequence[tuple[int, str, ChatMessage]]:
        """Messages that the model may see, newest first: sequence, id and message."""
        rows = await self._database.statement(
            "SELECT sequence, id, role, content FROM conversation.messages WHERE conversation_id = %(id)s"
            " AND sequence < %(before)s AND status IN ('completed', 'stopped') AND content <> ''"
            " ORDER BY sequence DESC LIMIT %(limit)s",
            {"id": conversation_id, "before": before_sequence, "limit": limit},
        )
        return [(row[0], str(row[1]), ChatMessage(Role(row[2]), row[3])) for row in rows]

    async def begin_turn(
        self,
        *,
        user_id: str,
        tier: str,
        conversation_id: str,
        content: str,
        model: str,
        request_id: str,
        request_hash: str,
    ) -> OpenTurn | KnownRequest:
        """Store the user's message and an open generation, once per request_id.

        Returns the open turn, or what the request_id led to before.

        Raises:
            DomainError: CONVERSATION_NOT_FOUND, CONVERSATION_BUSY, REQUEST_ID_REUSED.
        """
        now = self._clock.now()
        conversation_id = str(conversation_key(conversation_id))
        parameters: dict[str, Any] = {
            "id": conversation_id,
            "user": user_id,
            "tier": tier,
            "content": content,
            "model": model,
            "request": request_id or None,
            "hash": request_hash,
            "generation": new_id(),
            "question": new_id(),
            "answer": new_id(),
            "owner": self._owner,
            "lease": LEASE_S,
            "now": now,
        }
        try:
            rows = await self._database.statement(_BEGIN, parameters)
        except psycopg.errors.UniqueViolation:
            rows = []
        if not rows:
            return await self._explain_refusal(user_id, conversation_id, request_id, request_hash)
        last_sequence, default_model, system_prompt, parent_id = rows[0]
        return OpenTurn(
            generation_id=parameters["generation"],
            user_id=user_id,
            tier=tier,
            conversation_id=conversation_id,
            user_message=Message(
                id=parameters["question"],
                conversation_id=conversation_id,
                parent_id=str(parent_id or ""),
                role=Role.USER,
                content=content,
                status=MessageStatus.COMPLETED,
                sequence=last_sequence - 1,
                created_at=now,
                generation_id=parameters["generation"],
            ),
            answer_id=parameters["answer"],
            answer_sequence=last_sequence,
            model=model or default_model or "auto",
            system_prompt=system_prompt,
        )

    async def _explain_refusal(
        self, user_id: str, conversation_id: str, request_id: str, request_hash: str
    ) -> KnownRequest:
        if request_id:
            known = await self.find_request(user_id=user_id, request_id=request_id)
            if known is not None:
                if known.request_hash != request_hash or known.answer.conversation_id != conversation_id:
                    raise request_id_reused(request_id)
                return known
        await self._require(user_id, conversation_id)
        raise DomainError(
            Reason.CONVERSATION_BUSY,
            "An answer is being generated in this conversation; wait until it has ended.",
            metadata={"conversation_id": conversation_id},
        )

    async def _require(self, user_id: str, conversation_id: str) -> None:
        rows = await self._database.statement(
            "SELECT 1 FROM conversation.conversations WHERE id = %(id)s AND user_id = %(user)s",
            {"id": conversation_id, "user": user_id},
        )
        if not rows:
            raise conversation_not_found(conversation_id)

    async def find_request(self, *, user_id: str, request_id: str) -> KnownRequest | None:
        """What a request_id led to, None when it was not used."""
        rows = await self._database.statement(
            "SELECT g.id, g.request_hash, g.status, "
            + ", ".join("m." + column.strip() for column in MESSAGE.split(","))
            + " FROM conversation.generations g"
            " JOIN conversation.messages m ON m.id = g.message_id"
            " WHERE g.user_id = %(user)s AND g.request_id = %(request)s",
            {"user": user_id, "request": request_id},
        )
        if not rows:
            return None
        generation_id, request_hash, status, *message = rows[0]
        return KnownRequest(str(generation_id), request_hash, status == "open", message_from(tuple(message)))

    async def discard_turn(self, turn: OpenTurn) -> None:
        """Undo a turn of which nothing was generated, so that it can be tried again."""

        async def work(connection: Connection) -> None:
            parameters = {"generation": turn.generation_id, "conversation": turn.conversation_id}
            await connection.execute(
                "DELETE FROM conversation.messages WHERE conversation_id = %(conversation)s"
                " AND generation_id = %(generation)s",
                parameters,
            )
            await connection.execute("DELETE FROM conversation.generations WHERE id = %(generation)s", parameters)
            await connection.execute(
                "UPDATE conversation.conversations SET active_generation_id = NULL, active_until = NULL,"
                " last_sequence = last_sequence - 2"
                " WHERE id = %(conversation)s AND active_generation_id = %(generation)s",
                parameters,
            )

        await self._database.run(work)

    async def change_question(
        self, turn: OpenTurn, *, content: str | None = None, status: MessageStatus | None = None
    ) -> None:
        """Store the user's message as moderation left it."""
        await self._database.statement(
            "UPDATE conversation.messages SET content = coalesce(%(content)s, content),"
            " status = coalesce(%(status)s, status)"
            " WHERE conversation_id = %(conversation)s AND sequence = %(sequence)s",
            {
                "content": content,
                "status": status.value if status else None,
                "conversation": turn.conversation_id,
                "sequence": turn.user_message.sequence,
            },
        )

    async def finish_turn(
        self, turn: OpenTurn, outcome: Outcome, *, model: str, route: RouteReceipt | None
    ) -> Message | None:
        """Store how a turn ended, together with its usage record; once, whatever is retried.

        Returns:
            The answer as stored, which another process may have ended before; None when the conversation was deleted.
        """
        parameters: dict[str, Any] = {
            "conversation": turn.conversation_id,
            "generation": turn.generation_id,
            "answer": turn.answer_id,
            "sequence": turn.answer_sequence,
            "status": outcome.status.value,
            "finish_reason": outcome.finish_reason.value,
            "content": outcome.content,
            "model": model,
            "prompt_tokens": outcome.usage.prompt_tokens,
            "completion_tokens": outcome.usage.completion_tokens,
            "cached_tokens": outcome.usage.cached_tokens,
            "route": Jsonb(route_to_json(route)) if route else None,
            "error": Jsonb(error_to_json(outcome.error)) if outcome.error else None,
            "user": turn.user_id,
            "tier": turn.tier,
            "now": self._clock.now(),
        }
        rows = await self._database.statement(_FINISH, parameters)
        if not rows:
            rows = await self._database.statement(
                "SELECT " + MESSAGE + " FROM conversation.messages"
                " WHERE conversation_id = %(conversation)s AND sequence = %(sequence)s",
                parameters,
            )
        return message_from(rows[0]) if rows else None

    async def extend_leases(self, generation_ids: Sequence[str]) -> None:
        """Say that these generations are alive."""
        await self._database.statement(
            "UPDATE conversation.conversations SET active_until = now() + %(lease)s * INTERVAL '1 second'"
            " WHERE active_generation_id = ANY(%(ids)s::UUID[])",
            {"ids": list(generation_ids), "lease": LEASE_S},
        )

    async def fail_orphans(self, *, own: bool) -> int:
        """End generations whose owner is gone, and free their conversations. Returns how many.

        Args:
            own: Also those of an earlier life of this process, without waiting for their lease to run out.
        """
        error = ErrorSummary(
            "UNAVAILABLE", Reason.ENGINE_FAILED.value, "The server stopped while it was answering; ask again."
        )
        rows = await self._database.statement(
            _FAIL_ORPHANS,
            {
                "owner": self._owner if own else "",
                "now": self._clock.now(),
                "error": Jsonb(error_to_json(error)),
            },
        )
        return len(rows)


_BEGIN: LiteralString = """
WITH c AS (
    UPDATE conversation.conversations
    SET last_sequence = last_sequence + 2, updated_at = %(now)s, active_generation_id = %(generation)s::UUID,
        active_until = now() + %(lease)s * INTERVAL '1 second'
    WHERE id = %(id)s::UUID AND user_id = %(user)s AND active_generation_id IS NULL
    RETURNING id, last_sequence, model, system_prompt, leaf_message_id
), questions AS (
    INSERT INTO conversation.messages
        (conversation_id, sequence, id, parent_id, role, content, status, generation_id, created_at)
    SELECT id, last_sequence - 1, %(question)s::UUID, leaf_message_id, 'user', %(content)s, 'completed',
        %(generation)s::UUID, %(now)s FROM c
    RETURNING id
), answers AS (
    INSERT INTO conversation.messages
        (conversation_id, sequence, id, parent_id, role, content, status, generation_id, created_at)
    SELECT id, last_sequence, %(answer)s::UUID, %(question)s::UUID, 'assistant', '', 'in_progress',
        %(generation)s::UUID, %(now)s FROM c
    RETURNING id
), g AS (
    INSERT INTO conversation.generations
        (id, conversation_id, user_id, tier, user_message_id, message_id, request_id, request_hash, status, owner,
         created_at)
    SELECT %(generation)s::UUID, id, %(user)s, %(tier)s, %(question)s::UUID, %(answer)s::UUID, %(request)s::UUID,
        %(hash)s, 'open', %(owner)s, %(now)s FROM c
    RETURNING id
)
SELECT last_sequence, model, system_prompt, leaf_message_id FROM c
"""

_FINISH: LiteralString = (
    """
WITH g AS (
    UPDATE conversation.generations SET status = %(status)s, finished_at = %(now)s
    WHERE id = %(generation)s AND status = 'open'
    RETURNING id
), u AS (
    INSERT INTO conversation.usage_outbox (generation_id, user_id, tier, conversation_id, model, prompt_tokens,
        completion_tokens, cached_tokens, finish_reason, ended_at)
    SELECT %(generation)s::UUID, %(user)s, %(tier)s, %(conversation)s, %(model)s, %(prompt_tokens)s,
        %(completion_tokens)s, %(cached_tokens)s, %(finish_reason)s, %(now)s
    -- Also when the conversation was deleted meanwhile: the tokens were used. Usage counts each generation once.
    ON CONFLICT (generation_id) DO NOTHING
    RETURNING generation_id
), c AS (
    UPDATE conversation.conversations
    SET active_generation_id = NULL, active_until = NULL, leaf_message_id = %(answer)s::UUID, updated_at = %(now)s
    WHERE id = %(conversation)s::UUID AND active_generation_id = %(generation)s::UUID
    RETURNING id
)
UPDATE conversation.messages
SET content = %(content)s, status = %(status)s, model = %(model)s, finish_reason = %(finish_reason)s,
    prompt_tokens = %(prompt_tokens)s, completion_tokens = %(completion_tokens)s,
    cached_tokens = %(cached_tokens)s, route = %(route)s, error = %(error)s
WHERE conversation_id = %(conversation)s::UUID AND sequence = %(sequence)s AND status = 'in_progress'
RETURNING """
    + MESSAGE
)

_FAIL_ORPHANS: LiteralString = """
WITH g AS (
    UPDATE conversation.generations AS g SET status = 'failed', finished_at = %(now)s
    FROM conversation.conversations AS c
    WHERE g.status = 'open' AND c.active_generation_id = g.id AND (c.active_until < now() OR g.owner = %(owner)s)
    RETURNING g.id, g.message_id
), c AS (
    UPDATE conversation.conversations SET active_generation_id = NULL, active_until = NULL
    WHERE active_generation_id IN (SELECT id FROM g) RETURNING id
)
UPDATE conversation.messages SET status = 'failed', finish_reason = 'error', error = %(error)s
WHERE id IN (SELECT message_id FROM g) AND status = 'in_progress' RETURNING id
"""
