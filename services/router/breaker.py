"""A circuit breaker: whether a model of a replica is sent work after it has failed. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from services.router.model import BreakerState

WINDOW = 20
"""Outcomes that are judged."""
WINDOW_S = 60.0
"""Older ones say nothing about now."""
LEAST_FAILURES = 3
FAILURE_RATE = 0.5
FIRST_OPEN_S = 1.0
LAST_OPEN_S = 30.0
SUCCESSES_TO_CLOSE = 2
PROBE_TIMEOUT_S = 5.0
"""A probe of which nothing was heard for so long bars the next one no more: its caller may never have sent it."""
SAME_FAILURE_S = 2.0
"""A failure is told by the caller that met it and again by the replica's report, within this time."""


class Breaker:
    """Opens when three in a row, or half of the recent outcomes and at least three, were failures.

    It stays open for a time that doubles from one opening to the next, then lets one probe at a time through, and
    closes when two generations have ended well since. All times are monotonic seconds and never go back.
    """

    __slots__ = (
        "_closed_at",
        "_in_a_row",
        "_jitter",
        "_openings",
        "_outcomes",
        "_probe_since",
        "_reopen_at",
        "_reported",
        "_successes",
        "_told",
    )

    def __init__(self, *, jitter: Callable[[], float]) -> None:
        """`jitter` gives numbers from 0 to 1: the routers of a mesh must not all probe in the same moment."""
        self._jitter = jitter
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=WINDOW)
        self._in_a_row = 0
        self._openings = 0
        self._reopen_at: float | None = None
        self._closed_at = 0.0
        self._successes = 0
        self._probe_since: float | None = None
        self._told: deque[float] = deque(maxlen=WINDOW)
        self._reported: deque[float] = deque(maxlen=WINDOW)

    def state(self, now: float) -> BreakerState:
        """How it stands."""
        if self._reopen_at is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._reopen_at else BreakerState.HALF_OPEN

    @property
    def closed(self) -> bool:
        """Whether work is sent as if nothing had happened."""
        return self._reopen_at is None

    def wants_probe(self, now: float) -> bool:
        """Whether one generation may be sent to see whether it works again."""
        if self.state(now) is not BreakerState.HALF_OPEN:
            return False
        return self._probe_since is None or now - self._probe_since >= PROBE_TIMEOUT_S

    def begin_probe(self, now: float) -> None:
        """A generation was sent for that."""
        self._probe_since = now

    def failure_rate(self, now: float) -> float:
        """The share of failures among the recent outcomes."""
        self._forget(now)
        return sum(not good for _, good in self._outcomes) / max(1, len(self._outcomes))

    def told(self, now: float) -> None:
        """A caller says that a generation failed."""
        if not _take(self._reported, now):
            self._told.append(now)
            self._fail(now)

    def reported(self, *, completed: int, failed: int, now: float) -> None:
        """The replica says how many generations have ended since its last report."""
        for _ in range(min(failed, WINDOW)):
            if not _take(self._told, now):
                self._reported.append(now)
                self._fail(now)
        if completed:
            self._succeed(completed, now)

    def _succeed(self, number: int, now: float) -> None:
        match self.state(now):
            case BreakerState.OPEN:
                return
            case BreakerState.CLOSED:
                self._in_a_row = 0
                self._outcomes.extend([(now, True)] * min(number, WINDOW))
            case BreakerState.HALF_OPEN:
                self._probe_since = None
                self._successes += number
                if self._successes >= SUCCESSES_TO_CLOSE:
                    self._close(now)

    def _fail(self, now: float) -> None:
        match self.state(now):
            case BreakerState.OPEN:
                return
            case BreakerState.HALF_OPEN:
                self._open(now)
            case BreakerState.CLOSED:
                self._forget(now)
                self._in_a_row += 1
                self._outcomes.append((now, False))
                failures = sum(not good for _, good in self._outcomes)
                if self._in_a_row >= LEAST_FAILURES or (
                    failures >= LEAST_FAILURES and failures >= FAILURE_RATE * len(self._outcomes)
                ):
                    self._open(now)

    def _open(self, now: float) -> None:
        if self._reopen_at is None and now - self._closed_at >= WINDOW_S:
            self._openings = 0
        open_s = min(LAST_OPEN_S, FIRST_OPEN_S * 2**self._openings)
        self._openings = min(self._openings + 1, 16)
        self._reopen_at = now + open_s * (0.75 + 0.5 * self._jitter())
        self._successes = 0
        self._probe_since = None

    def _close(self, now: float) -> None:
        self._reopen_at = None
        self._closed_at = now
        self._in_a_row = 0
        self._outcomes.clear()

    def _forget(self, now: float) -> None:
        while self._outcomes and now - self._outcomes[0][0] >= WINDOW_S:
            self._outcomes.popleft()
        if not self._outcomes:
            self._in_a_row = 0


def _take(known: deque[float], now: float) -> bool:
    """Whether a failure is already known from the other side; it is then used up."""
    while known and now - known[0] >= SAME_FAILURE_S:
        known.popleft()
    if not known:
        return False
    known.popleft()
    return True
