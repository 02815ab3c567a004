"""Which replica takes a generation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.model import Option
from services.router.placement import AFFINITY_SLACK, expected_wait, place, settled_latency

latencies = st.floats(min_value=0.1, max_value=60_000)


@st.composite
def fleets(draw: st.DrawFn, *, least: int = 1) -> list[Option]:
    drawn = draw(st.lists(st.tuples(st.integers(1, 256), st.integers(0, 2000), latencies), min_size=least, max_size=40))
    return [
        Option(replica_id=f"r{number}", address=f"h{number}", slots=slots, in_flight=in_flight, latency_ms=latency)
        for number, (slots, in_flight, latency) in enumerate(drawn)
    ]


def test_nothing_to_choose_from() -> None:
    assert place([], sticky=False) is None


@given(fleets())
def test_the_least_expected_wait_wins(options: list[Option]) -> None:
    placement = place(options, sticky=False)
    assert placement is not None
    assert placement.chosen.score == min(expected_wait(option) for option in options)
    assert placement.rule == ("only" if len(options) == 1 else "least_loaded")


@given(fleets(), st.booleans())
def test_all_that_was_considered_is_told_best_first(options: list[Option], sticky: bool) -> None:
    placement = place(options, sticky=sticky)
    assert placement is not None
    scores = [candidate.score for candidate in placement.ranked]
    assert scores == sorted(scores)
    assert {candidate.option.replica_id for candidate in placement.ranked} == {o.replica_id for o in options}
    assert placement.chosen in placement.ranked


@given(fleets(least=2))
def test_a_conversation_stays_at_home_only_while_home_is_nearly_the_best(options: list[Option]) -> None:
    placement = place(options, sticky=True)
    assert placement is not None
    best = min(expected_wait(option) for option in options)
    stays = expected_wait(options[0]) <= best * (1 + AFFINITY_SLACK)
    assert (placement.chosen.option is options[0]) is stays
    assert placement.chosen.score <= best * (1 + AFFINITY_SLACK)


@given(fleets(), st.integers(1, 100))
def test_more_load_never_wins_a_generation(options: list[Option], more: int) -> None:
    """Raise the load of any replica that was not chosen: the choice stays."""
    before = place(options, sticky=False)
    assert before is not None
    for index, option in enumerate(options):
        if option is before.chosen.option:
            continue
        busier = Option(
            replica_id=option.replica_id,
            address=option.address,
            slots=option.slots,
            in_flight=option.in_flight + more,
            latency_ms=option.latency_ms,
        )
        after = place([*options[:index], busier, *options[index + 1 :]], sticky=False)
        assert after is not None
        assert after.chosen.option is before.chosen.option


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
