"""Windows hold what is asked for, once, and no more than fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.conversation.transfer.export_window import Run, rest, windows


@st.composite
def some_runs(draw: st.DrawFn) -> list[Run]:
    """Runs of some conversations, each on one or more branches."""
    runs = []
    for number in range(draw(st.integers(0, 5))):
        low = 1
        for branch in range(draw(st.integers(0, 3))):
            high = low + draw(st.integers(0, 9))
            runs.append(Run(number, f"c{number}", branch, low, high))
            low = high + 1
    return runs


def positions(runs: object) -> list[tuple[int, int, int]]:
    assert isinstance(runs, list)
    return [(run.number, run.branch, position) for run in runs for position in range(run.low, run.high + 1)]


@given(some_runs(), st.integers(1, 12))
def test_windows_hold_all_in_order(runs: list[Run], size: int) -> None:
    cut = [positions(list(window)) for window in windows(runs, size=size)]
    assert [position for window in cut for position in window] == positions(runs)
    assert all(len(window) == size for window in cut[:-1])
    assert all(0 < len(window) <= size for window in cut)


@given(some_runs(), st.data())
def test_the_rest_is_what_comes_after(runs: list[Run], data: st.DataObject) -> None:
    everything = positions(runs)
    if not everything:
        return
    at = data.draw(st.integers(0, len(everything) - 1))
    number, _, position = everything[at]
    assert positions(list(rest(runs, number=number, position=position))) == everything[at + 1 :]
