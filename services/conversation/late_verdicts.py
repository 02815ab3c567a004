"""Takes back what moderation finds too late, and gives back what people let pass after all.

Moderation says so in a stream of Redis. All servers of this service read it as one group: each entry comes to one of
them, and to another one when that dies. An entry is acknowledged when it cannot be lost any more, so it may come twice;
the database knows which took effect.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.conversation.late_convert import late_verdict_from_bytes
from services.conversation.late_model import LateVerdict
from services.conversation.late_store import Effect, LateStore
from services.conversation.late_unstored import LateUnstored
from services.conversation.log_store import LogStore, LogUnavailableError
from services.conversation.metrics import LateMetrics
from services.conversation.stop import StopGeneration
from services.runtime.errors import DomainError, Reason
from services.runtime.identity import Identity, current_scope, enter_scope
from services.runtime.stream_group import Entry, Pace, StreamGroup

_log = logging.getLogger(__name__)

STREAM = "chatmesh:moderation:late"
GROUP = "conversation"
FIELD = b"v"
COUNT = 32
"""Entries that are taken at a time."""
BLOCK_MS = 500
"""How long one read waits for news; shorter than the patience of the connection."""
CLAIM_EVERY_S = 2.0
CLAIM_AFTER_MS = 5000
"""How long an entry may be in the hands of a server before another one takes it."""
RETRY_S = 0.5
MAX_TRIES = 5
"""How often an entry is tried that nobody can read or carry out."""
CONSUMER_DAYS_MS = 24 * 3600 * 1000
"""How long a server is remembered that does not read any more and has nothing in its hands."""


class LateVerdicts:
    """Reads the stream. Run `run` as a task.

    Args:
        redis: Where the stream is.
        store: What is stored.
        logs: The logs of generations.
        stop: Ends answers that are being generated.
        unstored: Told of verdicts on answers that are not stored.
        metrics: Told of each verdict.
        name: This life of this server.
    """

    def __init__(
        self,
        *,
        redis: Redis,
        store: LateStore,
        logs: LogStore,
        stop: StopGeneration,
        unstored: LateUnstored,
        metrics: LateMetrics,
        name: str,
    ) -> None:
        pace = Pace(
            count=COUNT,
            block_ms=BLOCK_MS,
            claim_every_s=CLAIM_EVERY_S,
            claim_after_ms=CLAIM_AFTER_MS,
            retry_s=RETRY_S,
            max_tries=MAX_TRIES,
            forget_after_ms=CONSUMER_DAYS_MS,
        )
        self._group = StreamGroup(redis=redis, stream=STREAM, group=GROUP, name=name, pace=pace)
        self._store = store
        self._logs = logs
        self._stop = stop
        self._unstored = unstored
        self._metrics = metrics

    async def run(self) -> None:
        """Read for ever."""
        await self._group.run(self._take)

    async def _take(self, entries: Sequence[Entry]) -> None:
        """Carry them out side by side, those of one generation one after the other."""
        by_generation: defaultdict[str, list[tuple[Entry, LateVerdict]]] = defaultdict(list)
        for entry in entries:
            try:
                verdict = late_verdict_from_bytes(entry.fields.get(FIELD, b""))
            except ValueError:
                await self._give_up(entry, "a late verdict cannot be read")
            else:
                by_generation[verdict.generation_id].append((entry, verdict))
        ends = await asyncio.gather(
            *(self._in_turn(verdicts) for verdicts in by_generation.values()), return_exceptions=True
        )
        for end in ends:
            if end is not None:
                raise end

    async def _in_turn(self, verdicts: Sequence[tuple[Entry, LateVerdict]]) -> None:
        for entry, verdict in verdicts:
            try:
                effect = await self._carry_out_patiently(entry, verdict)
            except (RedisError, OSError):
                raise
            except Exception:  # noqa: BLE001 - one that cannot be carried out must not stop the others
                _log.exception("a late verdict failed", extra={"entry": entry.id})
                await self._give_up(entry, "a late verdict cannot be carried out")
                continue
            self._metrics.verdict(effect.value)
            if effect is Effect.NOT_YET:
                # It comes again.
                continue
            if effect is Effect.UNKNOWN and verdict.retract:
                await self._unstored.tell(entry.fields[FIELD])
            if effect not in (Effect.WANTED, Effect.REVISED):
                _log.info("a late verdict has no effect", extra={"entry": entry.id, "effect": effect.value})
            await self._group.acknowledge(entry)

    async def _carry_out_patiently(self, entry: Entry, verdict: LateVerdict) -> Effect:
        """Wait for a database or a Redis that is away: it is no fault of the entry."""
        told = False
        while True:
            try:
                return await self._carry_out(entry, verdict)
            except DomainError as error:
                if error.reason is Reason.GENERATION_NOT_FOUND:
                    return Effect.UNKNOWN
                why = error.reason.value
            except LogUnavailableError as error:
                why = type(error).__name__
            if not told:
                told = True
                _log.warning("a late verdict has to wait", extra={"entry": entry.id, "reason": why})
            await asyncio.sleep(RETRY_S)

    async def _carry_out(self, entry: Entry, verdict: LateVerdict) -> Effect:
        effect = await self._store.apply(entry.position, verdict)
        if effect is Effect.WANTED:
            await self._end(verdict)
        elif effect is Effect.REVISED:
            # It says what is not so any more. Who reads from now on reads from the database.
            await self._logs.drop(verdict.generation_id)
        return effect

    async def _end(self, verdict: LateVerdict) -> None:
        """Have whoever runs the generation end it. What it must end as is written down, for any server that ends it."""

        async def call() -> None:
            enter_scope(replace(current_scope(), identity=Identity(verdict.user_id)))
            try:
                await self._stop.stop(user_id=verdict.user_id, generation_id=verdict.generation_id)
            except DomainError as error:
                # The conversation may be deleted. Its server reads the wish with its next sign of life.
                _log.info("an answer that is taken back was not stopped at once", extra={"reason": error.reason.value})

        # A task of its own, for its scope.
        await asyncio.create_task(call())

    async def _give_up(self, entry: Entry, why: str) -> None:
        """Leave it to the next try, maybe of a newer server; or to nobody, when there were enough."""
        if await self._group.failed(entry):
            _log.error(why, extra={"entry": entry.id, "tries": MAX_TRIES})
            self._metrics.verdict("given_up")
