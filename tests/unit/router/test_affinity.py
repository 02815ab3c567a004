"""Where the last turns of conversations went."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.router.affinity import Affinity


def test_the_nearest_key_that_is_known_decides() -> None:
    places: Affinity[str] = Affinity(capacity=10, gone=lambda _: False)
    assert places.find([]) is None
    places.record([1], "a")
    assert places.find([2, 1]) == "a"
    places.record([2, 1], "b")
    assert places.find([2, 1]) == "b"
    assert places.find([1]) == "a"


def test_what_a_turn_comes_from_gets_a_place_when_it_has_none() -> None:
    places: Affinity[str] = Affinity(capacity=10, gone=lambda _: False)
    places.record([2, 1], "a")
    assert places.find([1]) == "a"


def test_places_that_are_gone_are_forgotten() -> None:
    gone: set[str] = set()
    places: Affinity[str] = Affinity(capacity=10, gone=gone.__contains__)
    places.record([2], "a")
    places.record([1], "b")
    gone.add("a")
    assert places.find([2, 1]) == "b"
    assert len(places) == 1


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=4), max_size=60), st.integers(4, 10))
def test_it_never_grows_and_knows_the_latest(history: list[list[int]], capacity: int) -> None:
    places: Affinity[int] = Affinity(capacity=capacity, gone=lambda _: False)
    for number, keys in enumerate(history):
        places.record(keys, number)
        assert len(places) <= capacity
        assert places.find(keys) == number
