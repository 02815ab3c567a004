"""Who may run now, who waits and where in line, and who is turned away. Pure: it is told the time."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from services.inference.model import Priority

T = TypeVar("T")

MIN_RETRY_S = 1.0
MAX_RETRY_S = 30.0
_DURATIONS_KEPT = 32
_DURATIONS_TRUSTED = 8
"""Before so many have ended nobody is turned away for how long they took."""
_LUCK = 2.0
"""Standard deviations: a wait shorter than the expected one by more than these is not to be hoped for."""
_URGENT_FIRST = tuple(reversed(Priority))


class Refusal(Enum):
    """Why somebody did not get to run; the values are what telemetry calls them."""

    QUEUE_FULL = "queue_full"
    DISPLACED = "displaced"
    """By one that came later and stands before it, when the queue was full."""
    WAIT_TOO_LONG = "wait_too_long"
    """It had waited as long as it may, or would have."""


class NoPlaceError(Exception):
    """There is no place in line. `retry_after_s` says when one is likely to be free."""

    def __init__(self, refusal: Refusal, retry_after_s: float) -> None:
        super().__init__(f"{refusal.value}, retry after {retry_after_s:.0f} s")
        self.refusal = refusal
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class _Place(Generic[T]):
    item: T
    priority: Priority
    deadline: tuple[float, int]


class Admission(Generic[T]):
    """`slots` run, up to `queue_limit` more wait, the rest is turned away.

    The most urgent is served first, and within a priority who came first. Nobody waits for ever, though: the one that
    has waited longest of all is passed over less than `oldest_every` times, so each one is served after at most
    `oldest_every` times as many as came before it and itself. That costs the urgent one slot in `oldest_every`, and
    only while others wait. Seniority by time would cost them more: as soon as the others wait longer than it takes to
    become the urgent's equal, all wait nearly as long.

    When the queue is full, the last of the less urgent makes way for a newcomer; but of the less urgent so many as
    their share of the slots may stay, or none of them would ever get so far.
    """

    def __init__(self, *, slots: int, queue_limit: int, oldest_every: int) -> None:
        self.slots = slots
        self.running = 0
        self._queue_limit = queue_limit
        self._oldest_every = oldest_every
        self._passed_over = 0
        """How often somebody was served before the one that has waited longest, since one that had was."""
        self._arrivals = 0
        self._places: OrderedDict[int, _Place[T]] = OrderedDict()
        """All that wait, in the order in which they came."""
        self._lines: dict[Priority, OrderedDict[int, None]] = {priority: OrderedDict() for priority in _URGENT_FIRST}
        """Their keys by priority, in the same order."""
        self._deadlines: list[tuple[float, int, int]] = []
        self._durations_s: deque[float] = deque(maxlen=_DURATIONS_KEPT)

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self._places)

    @property
    def next_deadline(self) -> float | None:
        """When the first of those that wait will have waited too long."""
        return self._deadlines[0][0] if self._deadlines else None

    def queued_of(self, priority: Priority) -> int:
        """How many of this priority wait."""
        return len(self._lines[priority])

    def enter(self, key: int, item: T, *, priority: Priority, now: float, timeout_s: float) -> T | None:
        """Stand in line, also when a slot is free: `next` gives it. Whoever lost its place to it is returned.

        Raises:
            NoPlaceError: the queue is full and nobody makes way, or it will certainly not run within `timeout_s`.
        """
        behind = sum(len(line) for other, line in self._lines.items() if other < priority)
        free = self.slots - self.running
        full = self.queued >= self._queue_limit + free
        if full and behind <= self._kept_places():
            raise NoPlaceError(Refusal.QUEUE_FULL, self.retry_after_s())
        if self._is_hopeless(self.queued - behind + 1 - free, timeout_s):
            raise NoPlaceError(Refusal.WAIT_TOO_LONG, self.retry_after_s())
        displaced = self.withdraw(self._last_key()) if full else None
        self._arrivals += 1
        place = _Place(item, priority, (now + timeout_s, self._arrivals))
        self._places[key] = place
        self._lines[priority][key] = None
        insort(self._deadlines, (*place.deadline, key))
        return displaced

    def next(self) -> T | None:
        """Whose turn it is, which takes a slot; None when no slot is free or nobody waits."""
        if self.running >= self.slots or not self._places:
            return None
        oldest = next(iter(self._places))
        first = next(key for line in self._lines.values() for key in line)
        if first != oldest:
            self._passed_over += 1
            if self._passed_over == self._oldest_every:
                first = oldest
        if first == oldest:
            self._passed_over = 0
        self.running += 1
        return self.withdraw(first)

    def withdraw(self, key: int) -> T | None:
        """Take an item out of the line; None when it does not wait."""
        place = self._places.pop(key, None)
        if place is None:
            return None
        del self._lines[place.priority][key]
        del self._deadlines[bisect_left(self._deadlines, (*place.deadline, key))]
        return place.item

    def withdraw_expired(self, now: float) -> list[T]:
        """Take out all that have waited too long."""
        expired: list[T] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            item = self.withdraw(self._deadlines[0][-1])
            if item is not None:
                expired.append(item)
        return expired

    def withdraw_all(self) -> list[T]:
        """Take out all that wait, in the order in which they came."""
        items = [place.item for place in self._places.values()]
        self._places.clear()
        self._deadlines.clear()
        for line in self._lines.values():
            line.clear()
        return items

    def release(self, duration_s: float) -> None:
        """Give back the slot of an item that ran `duration_s` seconds."""
        self._durations_s.append(duration_s)
        self.running -= 1

    def retry_after_s(self) -> float:
        """When those that wait now are likely to be served."""
        return min(MAX_RETRY_S, max(MIN_RETRY_S, self._expected_wait_s(self.queued + 1)))

    def _kept_places(self) -> int:
        return self._queue_limit // self._oldest_every if self._oldest_every else 0

    def _last_key(self) -> int:
        return next(key for line in reversed(self._lines.values()) for key in reversed(line))

    def _expected_wait_s(self, releases: int) -> float:
        """How long it takes until so many slots have been given back, when all are taken."""
        if not self._durations_s:
            return 0.0
        return releases * sum(self._durations_s) / len(self._durations_s) / self.slots

    def _is_hopeless(self, releases: int, timeout_s: float) -> bool:
        """Whether waiting for so many slots would take too long, were it even uncommonly quick.

        Slots are given back at random times, so the deviation of the time that `n` of them take is its mean by the
        root of `n`. Of four or fewer nothing is certain: there are always some that wait, and so the rate stays known.
        """
        if releases <= 0 or len(self._durations_s) < _DURATIONS_TRUSTED:
            return False
        quick = 1 - _LUCK / math.sqrt(releases)
        return self._expected_wait_s(releases) * quick > timeout_s
