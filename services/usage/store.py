"""Usage rows in the database: what is billed, and what the quotas are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from services.runtime.database import Database
from services.usage.model import DailyUsage, UsageRecord

_INSERT = """
    INSERT INTO usage.records (
        generation_id, user_id, day, conversation_id, model, tier,
        prompt_tokens, completion_tokens, cached_tokens, finish_reason, ended_at
    )
    SELECT * FROM unnest(
        %(generation_id)s::TEXT[], %(user_id)s::TEXT[], %(day)s::DATE[], %(conversation_id)s::TEXT[],
        %(model)s::TEXT[], %(tier)s::TEXT[], %(prompt_tokens)s::INT8[], %(completion_tokens)s::INT8[],
        %(cached_tokens)s::INT8[], %(finish_reason)s::TEXT[], %(ended_at)s::TIMESTAMPTZ[]
    )
    ON CONFLICT (generation_id) DO NOTHING
    RETURNING generation_id
"""

_DAY = """
    SELECT generation_id, prompt_tokens + completion_tokens FROM usage.records
    WHERE user_id = %(user_id)s AND day = %(day)s
"""

_DAILY = """
    SELECT day, model, count(*)::INT8, sum(prompt_tokens)::INT8, sum(completion_tokens)::INT8 FROM usage.records
    WHERE user_id = %(user_id)s AND day >= %(since)s
    GROUP BY day, model ORDER BY day DESC, model
"""

_RENAME = """
    UPDATE usage.records SET user_id = %(to)s
    WHERE generation_id IN (SELECT generation_id FROM usage.records WHERE user_id = %(user_id)s LIMIT %(limit)s)
    RETURNING generation_id
"""

RENAMED_AT_ONCE = 5_000
"""Rows that one statement gives another name: a user may have a million."""


class UsageStore:
    """Reads and writes `usage.records`; one row per generation, written once.

    All methods raise DomainError DEPENDENCY_UNAVAILABLE when the database does not answer.
    """

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def record(self, records: Sequence[UsageRecord]) -> set[str]:
        """Store what is not stored yet, in one statement. Returns the ids of the generations that were new."""
        rows = await self._database.statement(
            _INSERT,
            {
                "generation_id": [record.generation_id for record in records],
                "user_id": [record.user_id for record in records],
                "day": [record.day for record in records],
                "conversation_id": [record.conversation_id for record in records],
                "model": [record.model for record in records],
                "tier": [record.tier for record in records],
                "prompt_tokens": [record.prompt_tokens for record in records],
                "completion_tokens": [record.completion_tokens for record in records],
                "cached_tokens": [record.cached_tokens for record in records],
                "finish_reason": [record.finish_reason for record in records],
                "ended_at": [record.ended_at for record in records],
            },
        )
        return {generation_id for (generation_id,) in rows}

    async def day(self, user_id: str, day: date) -> Mapping[str, int]:
        """Tokens by generation of a user's day."""
        return dict(await self._database.statement(_DAY, {"user_id": user_id, "day": day}))

    async def daily(self, user_id: str, *, since: date) -> list[DailyUsage]:
        """Use by day and model, newest day first."""
        rows = await self._database.statement(_DAILY, {"user_id": user_id, "since": since})
        return [DailyUsage(*row) for row in rows]

    async def rename_user(self, user_id: str, *, to: str) -> int:
        """Give the records of a user another name. Returns how many there were."""
        renamed = 0
        while rows := await self._database.statement(_RENAME, {"user_id": user_id, "to": to, "limit": RENAMED_AT_ONCE}):
            renamed += len(rows)
        return renamed
