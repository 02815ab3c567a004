"""How long to gather."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.pacing import BUSY_FROM, BUSY_FULL, MAX_LINGER_S, linger_for

shares = st.floats(0, 1)


@given(st.floats(0, BUSY_FROM))
def test_an_idle_process_sends_at_once(share: float) -> None:
    assert linger_for(share) == 0


@given(st.floats(BUSY_FULL, 1))
def test_the_wait_is_bounded(share: float) -> None:
    assert linger_for(share) == MAX_LINGER_S


@given(shares, shares)
def test_it_grows_with_load(one: float, two: float) -> None:
    assert (linger_for(one) <= linger_for(two)) or one > two


def test_halfway() -> None:
    assert abs(linger_for((BUSY_FROM + BUSY_FULL) / 2) - MAX_LINGER_S / 2) < 1e-9
