"""Request counters in Redis."""

from __future__ import annotations

from collections.abc import Sequence

from services.usage.counters import Counters
from services.usage.model import RateQuery, RateStanding

_MINUTE_US = 60_000_000


class RateCounters:
    """Counts requests, all counters of a request in one step and one round trip."""

    def __init__(self, *, counters: Counters) -> None:
        self._counters = counters
        self._script = counters.script("rate")

    async def take(self, queries: Sequence[RateQuery]) -> list[RateStanding]:
        """Count a request against all its limits; when it fits not all of them, it is counted against none.

        Raises:
            CountersUnavailableError: Redis does not answer.
        """
        arguments: list[int] = []
        for query in queries:
            limit = query.limit
            arguments += (max(1, _MINUTE_US // limit.requests_per_minute), limit.burst, query.hits)
        rows = await self._counters.run(self._script, [f"rate:{query.key}" for query in queries], arguments)
        return [
            RateStanding(
                limit=query.limit, allowed=fits == 1, remaining=free, retry_s=retry_us / 1e6, reset_s=reset_us / 1e6
            )
            for query, (fits, free, retry_us, reset_us) in zip(queries, rows, strict=True)
        ]
