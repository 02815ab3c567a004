"""Who may run now, who waits, and who is turned away."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")

MIN_RETRY_S = 1.0
MAX_RETRY_S = 30.0
_DURATIONS_KEPT = 32


class QueueFullError(Exception):
    """All slots are taken and the queue is full. `retry_after_s` says when a place is likely to be free."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"queue full, retry after {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s


class Admission(Generic[T]):
    """`slots` run, up to `queue_limit` wait first come first served, the rest is refused."""

    def __init__(self, *, slots: int, queue_limit: int) -> None:
        self.slots = slots
        self.running = 0
        self._queue_limit = queue_limit
        self._queue: OrderedDict[int, T] = OrderedDict()
        self._durations_s: deque[float] = deque(maxlen=_DURATIONS_KEPT)

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self._queue)

    def offer(self, key: int, item: T) -> bool:
        """True: run it now, a slot is taken. False: it waits.

        Raises:
            QueueFullError: neither is possible.
        """
        if self.running < self.slots and not self._queue:
            self.running += 1
            return True
        if len(self._queue) >= self._queue_limit:
            raise QueueFullError(self._retry_after_s())
        self._queue[key] = item
        return False

    def withdraw(self, key: int) -> T | None:
        """Take an item out of the queue; None when it does not wait."""
        return self._queue.pop(key, None)

    def release(self, duration_s: float) -> T | None:
        """Give back the slot of an item that ran `duration_s` seconds; the next item to run takes it over, if any."""
        self._durations_s.append(duration_s)
        if self._queue:
            _, item = self._queue.popitem(last=False)
            return item
        self.running -= 1
        return None

    def _retry_after_s(self) -> float:
        mean_s = sum(self._durations_s) / len(self._durations_s) if self._durations_s else MIN_RETRY_S
        wait_s = mean_s * (self.queued + 1) / self.slots
        return min(MAX_RETRY_S, max(MIN_RETRY_S, wait_s))
