"""Which replica takes a generation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.locality import PENALTIES, allowed, distance
from services.router.model import Option
from services.router.placement import (
    GRACE_MS,
    HOME_BOUND,
    KNOWN_BOUND,
    QUEUE_COST,
    expected_wait,
    place,
    score,
    settled_latency,
)

latencies = st.floats(min_value=0.1, max_value=60_000)


@st.composite
def fleets(draw: st.DrawFn, *, least: int = 1) -> list[Option]:
    one = st.tuples(st.integers(1, 256), st.integers(0, 2000), latencies, latencies, st.integers(0, 2))
    drawn = draw(st.lists(one, min_size=least, max_size=40))
    return [
        Option(
            replica_id=f"r{number}",
            address=f"h{number}",
            slots=slots,
            in_flight=in_flight,
            latency_ms=latency,
            hold_ms=hold,
            distance=far,
        )
        for number, (slots, in_flight, latency, hold, far) in enumerate(drawn)
    ]


@given(fleets())
def test_the_least_expected_wait_wins(options: list[Option]) -> None:
    placement = place(options)
    assert placement.chosen.score == min(score(option) for option in options)
    assert placement.rule == ("only" if len(options) == 1 else "least_wait")


@given(fleets(), st.booleans(), st.integers(0, 3))
def test_all_that_was_considered_is_told_best_first(options: list[Option], known: bool, homes: int) -> None:
    placement = place(options, known=known, homes=homes)
    scores = [candidate.score for candidate in placement.ranked]
    assert scores == sorted(scores)
    assert {candidate.option.replica_id for candidate in placement.ranked} == {o.replica_id for o in options}
    assert placement.chosen in placement.ranked


@given(fleets(least=2), st.booleans())
def test_a_conversation_stays_only_while_its_replica_is_not_far_behind(options: list[Option], known: bool) -> None:
    placement = place(options, known=known, homes=0 if known else 1)
    best = min(score(option) for option in options)
    bound = best * (KNOWN_BOUND if known else HOME_BOUND) + GRACE_MS
    stays = score(options[0]) <= bound
    assert (placement.rule == "affinity") is stays
    assert placement.chosen.score <= bound
    if stays:
        assert placement.chosen.option is options[0]
    else:
        assert placement.chosen.score == best


@given(fleets(least=3))
def test_the_first_home_that_is_good_enough_is_taken(options: list[Option]) -> None:
    placement = place(options, homes=2)
    bound = min(score(option) for option in options) * HOME_BOUND + GRACE_MS
    good = [option for option in options[:2] if score(option) <= bound]
    assert placement.rule == ("affinity" if good else "least_wait")
    if good:
        assert placement.chosen.option is good[0]


@given(fleets(), st.integers(1, 100))
def test_more_load_never_wins_a_generation(options: list[Option], more: int) -> None:
    """Raise the load of any replica that was not chosen: the choice stays."""
    chosen = place(options).chosen.option
    for index, option in enumerate(options):
        if option is not chosen:
            busier = option._replace(in_flight=option.in_flight + more)
            assert place([*options[:index], busier, *options[index + 1 :]]).chosen.option is chosen


def test_the_wait_is_latency_by_load_and_beyond_the_slots_the_queue() -> None:
    option = Option("r", "h", slots=4, in_flight=2, latency_ms=50.0, hold_ms=1000.0)
    assert expected_wait(option) == 75.0
    assert expected_wait(option._replace(in_flight=3)) == 87.5
    # Without a slot, one of the four must end first: a quarter of a second.
    assert expected_wait(option._replace(in_flight=4)) == 100.0 + 250.0
    assert expected_wait(option._replace(in_flight=4, hold_ms=0.0)) == 100.0
    assert score(option._replace(in_flight=4)) == 100.0 + QUEUE_COST * 250.0
    assert score(option._replace(distance=2)) == 75.0 * PENALTIES[2]


def test_far_replicas_are_used_when_the_near_ones_are_busy() -> None:
    near = Option("near", "h1", slots=4, in_flight=1, latency_ms=100.0)
    far = Option("far", "h2", slots=4, in_flight=0, latency_ms=100.0, distance=2)
    assert place([far, near]).chosen.option is near
    busy = near._replace(in_flight=4, hold_ms=2000.0)
    assert place([far, busy]).chosen.option is far


@pytest.mark.parametrize(
    ("caller", "replica", "far"),
    [
        (("a1", "a"), ("a1", "a"), 0),
        (("a1", "a"), ("a2", "a"), 1),
        (("a1", "a"), ("b1", "b"), 2),
        (("1", "a"), ("1", "b"), 2),
        (("a1", "a"), ("", ""), 2),
        (("a1", "a"), ("", "a"), 1),
        (("", "a"), ("a2", "a"), 0),
        (("", "a"), ("b1", "b"), 2),
        (("a1", ""), ("a1", "a"), 0),
        (("a1", ""), ("a2", "a"), 2),
        (("", ""), ("b1", "b"), 0),
    ],
)
def test_distance(caller: tuple[str, str], replica: tuple[str, str], far: int) -> None:
    assert distance(zone=caller[0], region=caller[1], to_zone=replica[0], to_region=replica[1]) == far
    assert PENALTIES[far] >= 1.0


def test_data_that_is_bound_to_regions_goes_to_no_other() -> None:
    assert allowed("eu", frozenset({"eu"}))
    assert not allowed("us", frozenset({"eu"}))
    assert not allowed("", frozenset({"eu"}))
    assert not allowed("eu", frozenset())
    assert allowed("", None)


@given(latencies, latencies, st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_bad_figure_fades_and_never_passes_the_floor(reported: float, floor: float, age: float, later: float) -> None:
    now = settled_latency(reported, age_s=age, floor_ms=floor)
    then = settled_latency(reported, age_s=age + later, floor_ms=floor)
    rounding = 1 + 1e-12
    assert min(reported, floor) <= then * rounding
    assert then <= now * rounding
    assert now <= max(reported, floor) * rounding
    fresh = settled_latency(reported, age_s=0, floor_ms=floor)
    assert fresh == pytest.approx(reported)


def test_a_replica_without_a_figure_is_expected_to_be_as_good_as_the_best() -> None:
    assert settled_latency(0.0, age_s=100, floor_ms=30.0) == 30.0


def test_after_a_half_life_half_of_the_excess_is_left() -> None:
    assert settled_latency(110.0, age_s=10, floor_ms=10.0) == 60.0
