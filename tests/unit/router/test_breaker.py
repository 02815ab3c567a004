"""The circuit breaker, by examples and under any order of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.breaker import FIRST_OPEN_S, LAST_OPEN_S, PROBE_TIMEOUT_S, WINDOW_S, Breaker
from services.router.model import BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def breaker(jitter: float = 0.5) -> Breaker:
    return Breaker(jitter=lambda: jitter)


def opened(at: float = 0.0) -> Breaker:
    broken = breaker()
    for _ in range(3):
        broken.told(at)
    assert broken.state(at) is OPEN
    return broken


def test_three_failures_in_a_row_open_it() -> None:
    some = breaker()
    some.reported(completed=17, failed=0, now=0.0)
    for at in (1.0, 2.0):
        some.told(at)
        assert some.closed
    some.told(3.0)
    assert some.state(3.0) is OPEN


def test_half_of_the_recent_outcomes_open_it_and_less_does_not() -> None:
    some = breaker()
    for at in (0.0, 4.0, 8.0, 12.0, 16.0):
        some.told(at)
        some.reported(completed=2, failed=0, now=at + 1.0)
    assert some.closed
    mixed = breaker()
    for at in (0.0, 4.0):
        mixed.told(at)
        mixed.reported(completed=1, failed=0, now=at + 1.0)
    mixed.told(8.0)
    assert mixed.state(8.0) is OPEN


def test_failures_of_long_ago_count_no_more() -> None:
    some = breaker()
    for turn in range(6):
        some.told(turn * WINDOW_S)
    assert some.closed


def test_one_failure_is_not_counted_twice() -> None:
    """The caller that met it tells it, and the replica reports it, in either order."""
    some = breaker()
    for at in (0.0, 10.0):
        some.told(at)
        some.reported(completed=0, failed=1, now=at + 0.1)
    assert some.closed
    other = breaker()
    for at in (0.0, 10.0):
        other.reported(completed=0, failed=1, now=at)
        other.told(at + 0.1)
    assert other.closed
    other.told(20.0)
    assert other.state(20.0) is OPEN


def test_failures_that_only_the_replica_knows_of_open_it() -> None:
    some = breaker()
    some.reported(completed=0, failed=3, now=0.0)
    assert some.state(0.0) is OPEN


def test_one_probe_at_a_time_and_two_successes_close_it() -> None:
    some = opened()
    assert not some.wants_probe(FIRST_OPEN_S - 0.01)
    now = FIRST_OPEN_S
    assert some.state(now) is HALF_OPEN
    assert some.wants_probe(now)
    some.begin_probe(now)
    assert not some.wants_probe(now + 0.1)
    some.reported(completed=1, failed=0, now=now + 0.2)
    assert some.state(now + 0.2) is HALF_OPEN
    assert some.wants_probe(now + 0.2)
    some.begin_probe(now + 0.2)
    some.reported(completed=1, failed=0, now=now + 0.3)
    assert some.closed


def test_a_probe_that_fails_opens_it_for_longer_each_time() -> None:
    some, now, waits = opened(), 0.0, []
    for _ in range(8):
        since = now
        while not some.wants_probe(now):
            now += 0.25
        waits.append(now - since)
        some.begin_probe(now)
        some.told(now)
    assert waits == [1, 2, 4, 8, 16, LAST_OPEN_S, LAST_OPEN_S, LAST_OPEN_S]


def test_a_probe_of_which_nothing_is_heard_bars_the_next_one_for_a_while_only() -> None:
    some = opened()
    some.begin_probe(1.0)
    assert not some.wants_probe(1.0 + PROBE_TIMEOUT_S - 0.1)
    assert some.wants_probe(1.0 + PROBE_TIMEOUT_S)


def test_work_that_ends_while_it_is_open_closes_nothing() -> None:
    some = opened()
    some.reported(completed=50, failed=0, now=0.1)
    assert some.state(0.2) is OPEN
    assert some.state(FIRST_OPEN_S) is HALF_OPEN


def test_one_that_closes_and_breaks_again_goes_on_with_longer_times() -> None:
    some = opened()
    some.reported(completed=2, failed=0, now=1.0)
    assert some.closed
    for _ in range(3):
        some.told(4.0)
    assert not some.wants_probe(4.0 + 1.9)
    assert some.wants_probe(4.0 + 2.0)
    some.reported(completed=2, failed=0, now=6.0)
    for _ in range(3):
        some.told(6.0 + WINDOW_S)
    assert some.wants_probe(6.0 + WINDOW_S + FIRST_OPEN_S)


@pytest.mark.parametrize(("jitter", "at"), [(0.0, 0.75), (1.0, 1.25)])
def test_routers_do_not_all_probe_at_once(jitter: float, at: float) -> None:
    some = breaker(jitter)
    for _ in range(3):
        some.told(0.0)
    assert not some.wants_probe(at - 0.01)
    assert some.wants_probe(at)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["told", "completed", "failed", "probe", "wait"]), st.integers(1, 5), st.floats(0, 20)
        ),
        max_size=80,
    )
)
def test_any_order_of_events(history: list[tuple[str, int, float]]) -> None:
    """It never stays out of use: some time after the last failure it takes a probe, and good answers close it."""
    some, now, failures = breaker(), 0.0, 0
    for what, number, seconds in history:
        before = some.state(now)
        match what:
            case "told":
                some.told(now)
                failures += 1
            case "completed":
                some.reported(completed=number, failed=0, now=now)
                assert some.state(now) is before or (before, some.state(now)) == (HALF_OPEN, CLOSED)
            case "failed":
                some.reported(completed=0, failed=number, now=now)
                failures += number
            case "probe":
                if some.wants_probe(now):
                    assert before is HALF_OPEN
                    some.begin_probe(now)
                    assert not some.wants_probe(now)
            case _:
                now += seconds
        if failures < 3:
            assert some.closed
        assert 0.0 <= some.failure_rate(now) <= 1.0
    now += LAST_OPEN_S * 1.25 + PROBE_TIMEOUT_S
    assert some.closed or some.wants_probe(now)
    some.reported(completed=2, failed=0, now=now)
    assert some.closed
