"""Trees of files get places as trees of turns have them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.conversation.transfer.imported import BrokenConversationError
from services.conversation.transfer.ordering import order
from services.conversation.transfer.placing import place
from services.conversation.tree import Path


@st.composite
def trees(draw: st.DrawFn) -> list[int]:
    """For each message the index of an earlier one, or -1."""
    size = draw(st.integers(0, 60))
    return [draw(st.integers(-1, index - 1)) for index in range(size)]


def way_to(parents: list[int], index: int) -> list[int]:
    way = []
    while index >= 0:
        way.append(index)
        index = parents[index]
    return way[::-1]


@given(trees())
def test_the_path_of_a_message_leads_over_all_that_it_follows(parents: list[int]) -> None:
    placed = place(parents)
    at = {(spot.branch, spot.depth): index for index, spot in enumerate(placed.places)}
    assert len(at) == len(parents), "no two messages stand at one place"
    assert set(placed.paths) == {spot.branch for spot in placed.places} - {0}
    assert set(placed.paths) == set(range(1, len(placed.paths) + 1)), "the next branch is the number of branches"
    for index, spot in enumerate(placed.places):
        path = placed.paths.get(spot.branch, Path())
        assert path.branches[-1] == spot.branch
        found = [
            at[stretch.branch, depth]
            for stretch in path.stretches(1, spot.depth)
            for depth in range(stretch.low, stretch.high + 1)
        ]
        assert found == way_to(parents, index)


@given(trees())
def test_paths_are_short(parents: list[int]) -> None:
    for path in place(parents).paths.values():
        assert len(path.branches) <= 1 + math.log2(len(parents))


def test_a_comb_has_short_paths_and_long_chains_need_no_recursion() -> None:
    # Each question was edited once, and the conversation went on from the second version.
    comb = [-1]
    for _ in range(20_000):
        comb += [len(comb) - 1, len(comb) - 1]
    placed = place(comb)
    assert max(len(path.branches) for path in placed.paths.values()) <= 16
    chain = place([index - 1 for index in range(200_000)])
    assert chain.paths == {}
    assert chain.places[-1].depth == 200_000


@given(trees(), st.data())
def test_messages_that_are_left_out_do_not_break_the_tree(parents: list[int], data: st.DataObject) -> None:
    ids = [f"m{index}" for index in range(len(parents))]
    links = {id_: ids[parent] if parent >= 0 else None for id_, parent in zip(ids, parents, strict=True)}
    times = {id_: data.draw(st.none() | st.floats(-5, 5)) for id_ in ids}
    kept = frozenset(data.draw(st.sets(st.sampled_from(ids)))) if ids else frozenset()
    # In whatever order the file has them.
    shuffled = data.draw(st.permutations(ids))
    ordered = order({id_: links[id_] for id_ in shuffled}, times, kept)
    assert sorted(ordered.ids) == sorted(kept)
    for position, (id_, parent) in enumerate(zip(ordered.ids, ordered.parents, strict=True)):
        above = [other for other in way_to(parents, ids.index(id_))[:-1] if ids[other] in kept]
        assert parent == (ordered.ids.index(ids[above[-1]]) if above else -1)
        assert parent < position
    for id_ in ids:
        way = [ids[index] for index in way_to(parents, ids.index(id_)) if ids[index] in kept]
        assert ordered.nearest[id_] == (ordered.ids.index(way[-1]) if way else -1)


def test_messages_stand_in_the_order_of_their_times() -> None:
    links = {"root": None, "b": "root", "a": "root", "a2": "a", "b2": "b"}
    times = {"root": 0.0, "b": 5.0, "a": 1.0, "a2": 9.0, "b2": None}
    assert order(links, times, frozenset(links)).ids == ["root", "a", "b", "b2", "a2"]


def test_a_circle_is_refused() -> None:
    links = {"root": None, "a": "b", "b": "a"}
    with pytest.raises(BrokenConversationError):
        order(links, dict.fromkeys(links), frozenset(links))
