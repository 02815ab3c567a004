"""Logs of generations in Redis: one stream each, while it is open and for an hour after.

An entry's id is `<epoch>-<seq>`, and Redis takes no id that is not greater than the last. So whoever has appended at a
higher epoch has shut out every earlier owner, even one that was only paused and does not know it yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from services.conversation.generation_log import Completed, Entry, Failed
from services.conversation.log_convert import entries_from_bytes, entries_to_bytes

KEPT_S = 3600
"""How long a log is kept after its end."""
OPEN_S = 86_400
"""How long a log is kept that nobody ends."""
_FIELD = b"e"
_NOT_GREATER = "equal or smaller"
_APPEND = """
local replies = {}
for i, key in ipairs(KEYS) do
    local after, id, data, lifetime_s = ARGV[4 * i - 3], ARGV[4 * i - 2], ARGV[4 * i - 1], ARGV[4 * i]
    local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
    local found = #last > 0 and last[1][1] or ''
    if found == after then
        redis.call('XADD', key, id, 'e', data)
        if lifetime_s ~= '0' then
            redis.call('EXPIRE', key, lifetime_s)
        end
        replies[i] = ''
    else
        replies[i] = found == '' and '0-0' or found
    end
end
return replies
"""
"""Appends to many logs, each only where it ends as its owner believes: a store that was restored from a copy may have
lost its newest entries. One command and one reply, for each command of its own costs several times as much here.
"""


class LogUnavailableError(Exception):
    """Redis does not answer."""


@dataclass(frozen=True, slots=True, order=True)
class LogId:
    """The id of an entry in a log's stream. `NO_ENTRY` stands before the first."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


NO_ENTRY = LogId(0, 0)


@dataclass(frozen=True, slots=True)
class Append:
    """Entries to append to one log, whose last entry is known to be `after`."""

    generation_id: str
    epoch: int
    entries: Sequence[Entry]
    after: LogId

    @property
    def id(self) -> LogId:
        """The id that it gets."""
        return LogId(self.epoch, self.entries[-1].seq)


class LogStore:
    """Appends to logs and reads them. Raises LogUnavailableError when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        # Untyped: what its types say of replies holds for text, and these are bytes.
        self._redis: Any = redis
        self._append = redis.register_script(_APPEND)

    async def append(self, batch: Sequence[Append]) -> Sequence[LogId | None]:
        """Append to many logs in one round trip.

        Returns:
            For each None when it was appended, now or by an earlier try whose reply was lost; otherwise the entry that
            the log ends in instead, and then nothing was appended to it.
        """
        keys = [log_key(item.generation_id) for item in batch]
        arguments: list[Any] = []
        for item in batch:
            ended = isinstance(item.entries[-1].event, Completed | Failed)
            lifetime_s = KEPT_S if ended else OPEN_S if item.after == NO_ENTRY else 0
            after = "" if item.after == NO_ENTRY else str(item.after)
            arguments += (after, str(item.id), entries_to_bytes(item.entries), lifetime_s)
        try:
            replies = await self._append(keys, arguments)
        except RedisError as error:
            raise LogUnavailableError from error
        found = [_id(reply) if reply else None for reply in replies]
        return [None if place == item.id else place for place, item in zip(found, batch, strict=True)]

    async def fence(self, generation_id: str, epoch: int) -> Sequence[Entry] | None:
        """Shut out all owners before `epoch`, and read what they have left. None when a later owner is there."""
        key = log_key(generation_id)
        try:
            await self._redis.execute_command("XADD", key, f"{epoch}-0", _FIELD, b"")
            await self._redis.expire(key, OPEN_S)
        except ResponseError as error:
            if _NOT_GREATER not in str(error):
                raise LogUnavailableError from error
            if await self.last(generation_id) != LogId(epoch, 0):
                return None
        except RedisError as error:
            raise LogUnavailableError from error
        return await self.read(generation_id)

    async def read(self, generation_id: str) -> Sequence[Entry]:
        """All that a log has; nothing when there is no such log."""
        try:
            rows = await self._redis.xrange(log_key(generation_id))
        except RedisError as error:
            raise LogUnavailableError from error
        return [entry for _, fields in rows for entry in _entries(fields)]

    async def drop(self, generation_id: str) -> None:
        """Forget a log: what it says is not so any more, and the database knows better."""
        try:
            await self._redis.unlink(log_key(generation_id))
        except RedisError as error:
            raise LogUnavailableError from error

    async def follow(self, after: Mapping[str, str], *, block_ms: int) -> Mapping[str, tuple[str, Sequence[Entry]]]:
        """What comes to any of some logs, waiting a while for it.

        Args:
            after: By generation, the last id that was read; "0" from the start.

        Returns:
            By generation, the last id that was read now and the entries up to it.
        """
        streams: dict[Any, Any] = {log_key(generation_id): id_ for generation_id, id_ in after.items()}
        try:
            reply = await self._redis.xread(streams, block=block_ms)
        except RedisError as error:
            raise LogUnavailableError from error
        return {
            _generation_id(key): (rows[-1][0].decode(), [entry for _, fields in rows for entry in _entries(fields)])
            for key, rows in _pairs(reply)
        }

    async def last(self, generation_id: str) -> LogId | None:
        """The last entry; None when there is no such log."""
        try:
            rows = await self._redis.xrevrange(log_key(generation_id), count=1)
        except RedisError as error:
            raise LogUnavailableError from error
        return _id(rows[0][0]) if rows else None

    async def check(self) -> None:
        """Pass when Redis answers."""
        try:
            await self._redis.execute_command("PING")
        except RedisError as error:
            raise LogUnavailableError from error


def log_key(generation_id: str) -> str:
    """The key of a generation's stream."""
    return f"chatmesh:generation:{generation_id}"


def _generation_id(key: bytes) -> str:
    return key.decode().rpartition(":")[2]


def _entries(fields: Mapping[bytes, bytes]) -> Sequence[Entry]:
    return entries_from_bytes(fields.get(_FIELD, b""))


def _pairs(reply: Any) -> Sequence[tuple[bytes, Any]]:
    # RESP3 gives a map of lists of lists, RESP2 a list of pairs.
    if isinstance(reply, dict):
        return [(key, rows[0]) for key, rows in reply.items()]
    return list(reply or ())


def _id(value: bytes) -> LogId:
    epoch, _, seq = value.decode().partition("-")
    return LogId(int(epoch), int(seq))
