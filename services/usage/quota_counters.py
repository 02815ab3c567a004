"""Token quotas in Redis: what each user has used and set aside today."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from services.usage.counters import Counters
from services.usage.model import Lease, QuotaStanding, UsageRecord

DayRows = Callable[[str, date], Awaitable[Mapping[str, int]]]
"""Reads what a user's generations of a day used, from the database."""

_KEPT = timedelta(hours=6)
"""How long the keys of a day stay after its end: late settlements find their lease."""


@dataclass(frozen=True, slots=True)
class QuotaSpent:
    """Nothing is left of the day's tokens."""

    standing: QuotaStanding


class QuotaCounters:
    """The counters of a user's day are a view of the usage rows: when Redis has lost them they are made anew."""

    def __init__(self, *, counters: Counters, day_rows: DayRows) -> None:
        self._counters = counters
        self._day_rows = day_rows
        self._acquire = counters.script("quota", "acquire")
        self._settle = counters.script("quota", "settle")
        self._standing = counters.script("quota", "standing")

    async def acquire(
        self, user_id: str, generation_id: str, *, tokens: int, limit: int, now: datetime, lease_for: timedelta
    ) -> Lease | QuotaSpent:
        """Set tokens aside, fewer when fewer are left. The same generation gets the same lease.

        Raises:
            CountersUnavailableError: Redis does not answer.
            DomainError: the day has to be read from the database, and that does not answer.
        """
        day = now.date()
        keys = _keys(user_id, day)
        expires_ms = _milliseconds(now + lease_for)
        arguments: list[str | int] = [*_times(day, now), generation_id, tokens, limit, expires_ms]
        result = await self._counters.run(self._acquire, keys, [*arguments, 0])
        if result[0] == -1:
            rows = await self._day_rows(user_id, day)
            result = await self._counters.run(self._acquire, keys, [*arguments, 1, *_flat(rows.items())])
        if result[0] == 0:
            return QuotaSpent(QuotaStanding(result[1], result[2]))
        granted, remaining, expiry_ms = result
        return Lease(granted, remaining, datetime.fromtimestamp(int(expiry_ms) / 1000, UTC))

    async def settle(self, records: Sequence[UsageRecord], *, now: datetime) -> None:
        """Count what generations used, each of them once however often this is called.

        Raises:
            CountersUnavailableError: Redis does not answer; some may have been counted.
        """
        days: dict[tuple[str, date], list[UsageRecord]] = {}
        for record in records:
            days.setdefault((record.user_id, record.day), []).append(record)
        for (user_id, day), of_day in days.items():
            if day < (now - _KEPT).date():
                continue
            used = _flat((record.generation_id, record.tokens) for record in of_day)
            await self._counters.run(self._settle, _keys(user_id, day), [*_times(day, now), *used])

    async def standing(self, user_id: str, *, now: datetime) -> QuotaStanding | None:
        """What is used and set aside today; None when Redis has no count of it.

        Raises:
            CountersUnavailableError: Redis does not answer.
        """
        day = now.date()
        result = await self._counters.run(self._standing, _keys(user_id, day), _times(day, now))
        return None if result[0] == -1 else QuotaStanding(*result)


def end_of_day(now: datetime) -> datetime:
    """The next midnight, UTC."""
    return datetime.combine(now.date() + timedelta(days=1), time.min, UTC)


def _keys(user_id: str, day: date) -> list[str]:
    # The braces put the four on the same node of a cluster.
    return [f"quota:{{{user_id}}}:{day}:{part}" for part in ("standing", "expiry", "leased", "settled")]


def _times(day: date, now: datetime) -> list[int]:
    kept_until = datetime.combine(day + timedelta(days=1), time.min, UTC) + _KEPT
    return [_milliseconds(now), max(1, int((kept_until - now).total_seconds()))]


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _flat(pairs: Iterable[tuple[str, int]]) -> list[str | int]:
    return [value for pair in pairs for value in pair]
