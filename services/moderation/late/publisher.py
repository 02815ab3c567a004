"""Tells whoever shows texts of verdicts that come late: an entry of a Redis stream for each."""

from __future__ import annotations

from datetime import timedelta

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.moderation.late.convert import serialized
from services.moderation.late.verdict import LateVerdict
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, Reason

STREAM = "chatmesh:moderation:late"
FIELD = "v"
MAX_ENTRIES = 100_000
"""About how many entries stay: whoever is further behind has lost the oldest."""
MAX_AGE = timedelta(days=7)
"""How old entries become. They hold texts, so that they go also when nothing new comes."""


class LatePublisher:
    """Appends to the stream."""

    def __init__(self, *, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def publish(self, verdict: LateVerdict) -> None:
        """Append one verdict.

        Raises:
            DomainError: DEPENDENCY_UNAVAILABLE. It may have been appended all the same.
        """
        try:
            await self._redis.xadd(STREAM, {FIELD: serialized(verdict)}, maxlen=MAX_ENTRIES, approximate=True)
        except RedisError as error:
            raise _unavailable() from error

    async def trim(self) -> None:
        """Remove what has become too old.

        Raises:
            DomainError: DEPENDENCY_UNAVAILABLE.
        """
        oldest = int((self._clock.now() - MAX_AGE).timestamp() * 1000)
        try:
            # Exactly, for an approximate trim leaves what shares a node with younger entries.
            await self._redis.xtrim(STREAM, minid=str(oldest), approximate=False)
        except RedisError as error:
            raise _unavailable() from error


def _unavailable() -> DomainError:
    return DomainError(
        Reason.DEPENDENCY_UNAVAILABLE, "Redis is not available; try again shortly.", metadata={"service": "redis"}
    )
