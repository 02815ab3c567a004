"""A consumer group of a Redis stream: each entry comes to one process, and to another one when that dies.

An entry is deleted when it is done, for it may hold text that nobody needs any more. It may come twice: what its reader
does about it must bear that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from services.runtime.redis import raise_if_cancelled

_log = logging.getLogger(__name__)

_BEGINNING = ("0-0", b"0-0")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream."""

    id: str
    fields: Mapping[bytes, bytes]

    @property
    def time_ms(self) -> int:
        """When it was appended, in milliseconds since 1970, by the clock of Redis."""
        return int(self.id.partition("-")[0])

    @property
    def position(self) -> str:
        """Its place among the others, as text of a fixed length."""
        return f"{self.time_ms:020d}-{int(self.id.partition('-')[2]):020d}"


@dataclass(frozen=True, slots=True)
class Pace:
    """How a group is read.

    Attributes:
        count: Entries that are taken at a time.
        block_ms: How long one read waits for news; shorter than the patience of the connection.
        claim_every_s: How often is looked for what a dead process has left.
        claim_after_ms: How long a process may be silent before another one takes what it has in its hands.
        hold_s: How long entries that a living process works on are kept from others, however long ago it took them.
        retry_s: How long to wait when Redis is away.
        max_tries: How often an entry is tried that fails.
        max_deliveries: How often an entry is given out at all, to processes that may have died of it; None for ever.
        forget_after_ms: How long a process is remembered that reads no more and has nothing in its hands.
    """

    count: int = 32
    block_ms: int = 500
    claim_every_s: float = 2.0
    claim_after_ms: int = 5_000
    hold_s: float = 0.0
    retry_s: float = 0.5
    max_tries: int = 5
    max_deliveries: int | None = None
    forget_after_ms: int = 24 * 3600 * 1000


class StreamGroup:
    """One process of a group. Run `run` as a task.

    Args:
        redis: Where the stream is.
        stream: Its key.
        group: The group's name. It begins with the oldest entry, for it is made when the first process starts.
        name: This life of this process.
        pace: How it is read.
    """

    def __init__(self, *, redis: Redis, stream: str, group: str, name: str, pace: Pace | None = None) -> None:
        # Untyped: what its types say of replies holds for text, and these are bytes.
        self._redis: Any = redis
        self._stream = stream
        self._group = group
        self._name = name
        self._pace = pace or Pace()
        self._joined = False
        self._claim_at = 0.0
        self._claim_from: str | bytes = "0-0"
        self._away = False

    async def run(self, take: Callable[[Sequence[Entry]], Awaitable[None]]) -> None:
        """Read for ever. While Redis is away it waits; all other errors of `take` end it.

        Args:
            take: Given what was read; the next is read when it returns. An entry that it does not acknowledge comes
                again.
        """
        while True:
            raise_if_cancelled()
            try:
                if not self._joined:
                    await self._join()
                await self._give(take, await self._claim())
                await self._give(take, await self._read())
                self._away = False
            except (RedisError, OSError) as error:
                # Also when it is back with nothing in it: then there is no group.
                self._joined = False
                if not self._away and not _is_without_key(error):
                    self._away = True
                    _log.warning("stream is not read", extra={"stream": self._stream, "error": type(error).__name__})
                await asyncio.sleep(self._pace.retry_s)

    async def acknowledge(self, entry: Entry) -> None:
        """It is done.

        Raises:
            RedisError: It comes again.
        """
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.xack(self._stream, self._group, entry.id)
            pipeline.xdel(self._stream, entry.id)
            await pipeline.execute()

    async def failed(self, entry: Entry) -> bool:
        """Leave an entry to the next try, maybe of a newer process; or to nobody, when there were enough.

        Returns:
            Whether it was given up, and is gone.

        Raises:
            RedisError: It comes again.
        """
        if await self._tries(entry) < self._pace.max_tries:
            return False
        await self.acknowledge(entry)
        return True

    async def _give(self, take: Callable[[Sequence[Entry]], Awaitable[None]], entries: Sequence[Entry]) -> None:
        if not entries:
            return
        if self._pace.hold_s:
            async with self._holding(entries):
                await take(entries)
        else:
            await take(entries)

    async def _join(self) -> None:
        try:
            await self._redis.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._joined = True

    async def _read(self) -> Sequence[Entry]:
        reply = await self._redis.xreadgroup(
            self._group, self._name, {self._stream: ">"}, count=self._pace.count, block=self._pace.block_ms
        )
        # RESP3 gives a map of lists of lists, RESP2 a list of pairs.
        rows = reply.values() if isinstance(reply, dict) else [rows for _, rows in reply or ()]
        return [entry for found in rows for entry in _entries(found[0] if isinstance(reply, dict) else found)]

    async def _claim(self) -> Sequence[Entry]:
        """What another process took and did not acknowledge, or this one."""
        if time.monotonic() < self._claim_at:
            return ()
        self._claim_at = time.monotonic() + self._pace.claim_every_s
        self._claim_from, rows, *_ = await self._redis.xautoclaim(
            self._stream,
            self._group,
            self._name,
            min_idle_time=self._pace.claim_after_ms,
            start_id=self._claim_from,
            count=self._pace.count,
        )
        if self._claim_from in _BEGINNING:
            await self._tidy()
        return [entry for entry in _entries(rows) if not await self._is_deadly(entry)]

    async def _is_deadly(self, entry: Entry) -> bool:
        """Whether those who had it did not live to say that it failed; then it is given up."""
        most = self._pace.max_deliveries
        if most is None or await self._tries(entry) <= most:
            return False
        _log.error("an entry is given up", extra={"stream": self._stream, "entry": entry.id, "tries": most})
        await self.acknowledge(entry)
        return True

    async def _tries(self, entry: Entry) -> int:
        """How often it was given to somebody, this time included."""
        found = await self._redis.xpending_range(self._stream, self._group, min=entry.id, max=entry.id, count=1)
        return int(found[0]["times_delivered"]) if found else 0

    async def _tidy(self) -> None:
        """Forget processes that are long gone."""
        for consumer in await self._redis.xinfo_consumers(self._stream, self._group):
            # Before Redis 7.2 idle means that nothing came, not that nobody read: this one has just read.
            gone = consumer["idle"] > self._pace.forget_after_ms and consumer["name"] != self._name.encode()
            if gone and not consumer["pending"]:
                await self._redis.xgroup_delconsumer(self._stream, self._group, consumer["name"])

    @asynccontextmanager
    async def _holding(self, entries: Sequence[Entry]) -> AsyncIterator[None]:
        """Show that this process lives, so that nobody takes what it works on."""
        hold = asyncio.create_task(self._hold([entry.id for entry in entries]), name="stream-group-hold")
        try:
            yield
        finally:
            hold.cancel()

    async def _hold(self, ids: Sequence[str]) -> None:
        until = time.monotonic() + self._pace.hold_s
        while time.monotonic() < until:
            raise_if_cancelled()
            await asyncio.sleep(self._pace.claim_after_ms / 3000)
            try:
                # Without their content, which also does not count as a try. What is acknowledged is left out by Redis.
                await self._redis.xclaim(
                    self._stream, self._group, self._name, min_idle_time=0, message_ids=ids, justid=True
                )
            except (RedisError, OSError):
                # Whoever works on them hears of it too.
                _log.debug("entries are not held")


def _is_without_key(error: Exception) -> bool:
    """Whether there is no stream, and so no group: it has expired with all that was in it, which is no failure."""
    return isinstance(error, ResponseError) and str(error).startswith(("NOGROUP", "UNBLOCKED"))


def _entries(rows: Sequence[Any]) -> Sequence[Entry]:
    # What was trimmed away meanwhile has no fields, or no id either.
    return [Entry(row[0].decode(), row[1] or {}) for row in rows if row and row[0] is not None and row[1] is not None]
