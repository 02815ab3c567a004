"""Tells the Usage service what was used: in batches, and until it has heard.

A record is written with the answer, in the same transaction. It is deleted once Usage has stored it; Usage stores each
generation once, so sending a record again does no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from services.conversation.chat_model import FinishReason, TokenUsage
from services.conversation.model import UsageRecord
from services.conversation.peers.usage import UsagePeer
from services.runtime.clock import Clock
from services.runtime.database import Database
from services.runtime.errors import DomainError, Reason

_log = logging.getLogger(__name__)

GATHER_S = 0.2
"""How long records gather before they are sent together."""
SWEEP_S = 15.0
"""How often records that stayed behind are looked for."""
BATCH = 500


class UsageOutbox:
    """Sends what is in the table `usage_outbox` and deletes what was taken. Run `run` as a task."""

    def __init__(self, *, database: Database, usage: UsagePeer, clock: Clock) -> None:
        self._clock = clock
        self._database = database
        self._usage = usage
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        """Say that there is something to send."""
        self._wanted.set()

    async def run(self) -> None:
        """Send for ever."""
        while True:
            try:
                async with asyncio.timeout(SWEEP_S):
                    await self._wanted.wait()
                await asyncio.sleep(GATHER_S)
            except TimeoutError:
                pass
            self._wanted.clear()
            await self.flush()

    async def flush(self) -> None:
        """Send all that is there."""
        try:
            while records := await self._read():
                await self._settle(records)
                await self._delete([record.generation_id for record in records])
        except DomainError as error:
            # It stays in the table and is sent with the next ones.
            _log.warning("usage is not settled yet", extra={"reason": error.reason.value})

    async def _settle(self, records: Sequence[UsageRecord]) -> None:
        try:
            await self._usage.settle(records)
        except DomainError as error:
            if error.reason is not Reason.INVALID_FIELD:
                raise
            if len(records) > 1:
                # One of them; it must not hold up the others.
                for record in records:
                    await self._settle([record])
                return
            _log.error("a usage record is refused and dropped", extra={"generation_id": records[0].generation_id})

    async def _read(self) -> Sequence[UsageRecord]:
        rows = await self._database.statement(
            "SELECT generation_id, user_id, tier, conversation_id, model, prompt_tokens, completion_tokens,"
            " cached_tokens, finish_reason, ended_at FROM conversation.usage_outbox LIMIT %(limit)s",
            {"limit": BATCH},
        )
        return [
            UsageRecord(
                generation_id=str(row[0]),
                user_id=row[1],
                tier=row[2],
                conversation_id=row[3],
                model=row[4],
                usage=TokenUsage(row[5], row[6], row[7]),
                finish_reason=FinishReason(row[8]),
                ended_at=row[9],
            )
            for row in rows
        ]

    async def _delete(self, generation_ids: Sequence[str]) -> None:
        await self._database.statement(
            "DELETE FROM conversation.usage_outbox WHERE generation_id = ANY(%(ids)s::UUID[])",
            {"ids": list(generation_ids)},
        )

    async def release(self, *, generation_id: str, user_id: str, tier: str, refusal: Reason | None) -> None:
        """Give back what was reserved for a generation that was refused before it began.

        Nothing is written where the refusal says that nothing was reserved, nor when the database is away: a
        reservation ends by itself after a while.
        """
        if refusal is Reason.QUOTA_EXCEEDED:
            return
        record = UsageRecord(
            generation_id=generation_id,
            user_id=user_id,
            tier=tier,
            conversation_id="",
            model="",
            usage=TokenUsage(),
            finish_reason=FinishReason.ERROR,
            ended_at=self._clock.now(),
        )
        try:
            await self.add(record)
        except DomainError as error:
            _log.warning("a reservation is not given back", extra={"reason": error.reason.value})

    async def add(self, record: UsageRecord) -> None:
        """Write a record that has no answer to be written with, and send it."""
        await self._database.statement(
            "INSERT INTO conversation.usage_outbox (generation_id, user_id, tier, conversation_id, model,"
            " prompt_tokens, completion_tokens, cached_tokens, finish_reason, ended_at) VALUES (%(generation)s,"
            " %(user)s, %(tier)s, %(conversation)s, %(model)s, %(prompt)s, %(completion)s, %(cached)s,"
            " %(finish_reason)s, %(ended)s) ON CONFLICT (generation_id) DO NOTHING",
            {
                "generation": record.generation_id,
                "user": record.user_id,
                "tier": record.tier,
                "conversation": record.conversation_id,
                "model": record.model,
                "prompt": record.usage.prompt_tokens,
                "completion": record.usage.completion_tokens,
                "cached": record.usage.cached_tokens,
                "finish_reason": record.finish_reason.value,
                "ended": record.ended_at,
            },
        )
        self.wake()
