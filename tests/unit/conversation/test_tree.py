"""Paths in the tree of messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.conversation.tree import Path, Stretch


def places(path: Path, depth: int) -> list[tuple[int, int]]:
    """Every place on the way, one by one."""
    return [
        (max((start, branch) for branch, start in zip(path.branches, path.starts, strict=True) if start <= d)[1], d)
        for d in range(1, depth + 1)
    ]


@st.composite
def forked_paths(draw: st.DrawFn) -> tuple[Path, list[tuple[int, int]]]:
    """A path that was forked many times, and its places as a list that was cut and grown."""
    path, way = Path(), [(0, depth) for depth in range(1, draw(st.integers(1, 6)))]
    for branch in range(1, draw(st.integers(1, 8))):
        after = draw(st.integers(0, len(way)))
        path = path.fork(after_depth=after, branch=branch)
        grown = draw(st.integers(1, 5))
        way = way[:after] + [(branch, depth) for depth in range(after + 1, after + grown + 1)]
    return path, way


def test_a_path_is_cut_into_its_stretches() -> None:
    path = Path().fork(after_depth=4, branch=3).fork(after_depth=6, branch=7)
    assert path == Path((0, 3, 7), (1, 5, 7))
    assert path.stretches(3, 9) == [Stretch(0, 3, 4), Stretch(3, 5, 6), Stretch(7, 7, 9)]
    assert path.stretches(6, 6) == [Stretch(3, 6, 6)]
    assert path.stretches(7, 6) == []
    assert path.stretches(-5, 0) == []


def test_a_fork_before_a_branch_began_does_not_go_through_it() -> None:
    path = Path((0, 3), (1, 5))
    assert path.fork(after_depth=4, branch=9) == Path((0, 9), (1, 5))
    assert path.fork(after_depth=5, branch=9) == Path((0, 3, 9), (1, 5, 6))
    assert path.fork(after_depth=0, branch=9) == Path((9,), (1,))


@given(forked=forked_paths(), low=st.integers(-3, 20), length=st.integers(0, 20))
def test_stretches_are_the_places_of_the_depths_asked_for(
    forked: tuple[Path, list[tuple[int, int]]], low: int, length: int
) -> None:
    path, way = forked
    high = min(low + length - 1, len(way))
    found = [
        (stretch.branch, depth)
        for stretch in path.stretches(low, high)
        for depth in range(stretch.low, stretch.high + 1)
    ]
    assert found == [place for place in way if low <= place[1] <= high]
    assert way == places(path, len(way))
