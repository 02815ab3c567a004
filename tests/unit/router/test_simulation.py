"""The choice of a replica in a simulated fleet, against simpler rules. Everything follows from the seed."""

from __future__ import annotations

from functools import partial

import pytest

from bench.fleet_policies import POLICIES, Ours
from bench.fleet_simulation import ReplicaSpec, Simulation, Traffic, speeds
from bench.routing import TROUBLES, WARM_S, Extent, affinity, by_speed, trouble

NUMBER = 40
SMALL = Extent(NUMBER, seconds=50.0, seed=2)
LONG = Extent(NUMBER, seconds=80.0, seed=2)


def test_the_fast_get_more_and_nobody_waits_as_long_as_by_chance() -> None:
    ours, turns, chance = (by_speed(rule, SMALL, load=0.7) for rule in ("ours", "round_robin", "random"))
    assert ours["failed"] == 0
    assert ours["1x slow"] > ours["2x slow"] > ours["3x slow"] > ours["4x slow"] > 0
    assert ours["1x slow"] > 4 * ours["4x slow"]
    for other in (turns, chance):
        assert ours["p99"] < other["p99"] / 4
        assert ours["p50"] < other["p50"]


def test_the_fast_ones_are_preferred_when_there_is_no_need_to_queue() -> None:
    ours, least = (by_speed(rule, SMALL, load=0.4) for rule in ("ours", "least_in_flight"))
    assert ours["p50"] < least["p50"]
    assert ours["p99"] < least["p99"]


def test_routers_that_do_not_talk_do_not_herd() -> None:
    """Each hears reports that are up to half a second old, and knows nothing of what the others send."""
    alone, several = (by_speed("ours", SMALL, load=0.7, routers=routers) for routers in (1, 8))
    assert several["failed"] == 0
    assert several["p99"] < 1.5 * alone["p99"]


def test_one_that_becomes_ten_times_as_slow_loses_its_share() -> None:
    ours, turns = (trouble(rule, "slow", SMALL) for rule in ("ours", "round_robin"))
    assert ours["share before"] > 0.05
    assert ours["5-20 s"] < ours["share before"] / 10
    assert turns["5-20 s"] == pytest.approx(0.1, abs=0.01)
    assert ours["p99 after"] < 2 * ours["p99 before"] < turns["p99 after"] / 10


@pytest.mark.parametrize("name", ["kill", "hang", "drain 30%"])
def test_those_that_leave_get_nothing_more_and_no_request_is_lost(name: str) -> None:
    ours = trouble("ours", name, SMALL)
    assert ours["share before"] > 0
    assert (ours["5-20 s"], ours["failed"]) == (0, 0)
    assert ours["p99 after"] < 2 * ours["p99 before"]


def test_those_that_fail_at_once_do_not_swallow_what_comes() -> None:
    """To a rule that only counts what is in flight, an engine that fails at once looks idle."""
    ours, least = (trouble(rule, "fail", SMALL) for rule in ("ours", "least_in_flight"))
    assert ours["failed"] == 0
    assert ours["5-20 s"] < ours["share before"] / 2
    assert least["5-20 s"] > least["share before"] * 5
    assert ours["retried"] < least["retried"] / 20


@pytest.mark.parametrize(("silent_s", "name"), [(1.25, "hang"), (0.11, "drain 30%")])
def test_nothing_is_sent_there_after_a_heartbeat(silent_s: float, name: str) -> None:
    """One that has gone silent is passed over as soon as it is suspect; one that drains says so at once."""
    simulation = Simulation(
        specs=[ReplicaSpec()] * NUMBER, policy=Ours, traffic=Traffic(conversations_per_s=40.0), seed=3
    )
    left: set[int] = set()
    simulation.after(5.0, lambda: left.update(each.number for each in TROUBLES[name](simulation)))
    simulation.run(12.0)
    assert len(left) >= 1
    assert any(number in left for at, number in simulation.sent if at < 5.0)
    assert not [at for at, number in simulation.sent if number in left and at > 5.0 + silent_s]
    assert not any(turn.failed for turn in simulation.turns)


@pytest.mark.parametrize(("rule", "routers"), [("ours", 1), ("told", 4)])
def test_turns_and_forks_go_where_their_beginning_is_cached(rule: str, routers: int) -> None:
    ours, chance = (affinity(name, LONG, routers=routers) for name in (rule, "random"))
    assert ours["hits"] > 0.9
    assert ours["of forks"] > 0.85
    assert chance["hits"] < 4 / NUMBER
    assert ours["saved"] > 0.5 > 10 * chance["saved"]
    assert ours["p50"] < chance["p50"] / 2


def test_routers_that_are_told_nothing_still_agree_on_most() -> None:
    apart = affinity("ours", LONG, routers=4)
    assert apart["hits"] > 0.4


def test_callers_are_served_in_their_zone_unless_it_is_too_busy() -> None:
    places = (("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"))
    specs = [ReplicaSpec(zone=places[index % 4][0], region=places[index % 4][1]) for index in range(NUMBER)]

    def served_in(zones: tuple[tuple[str, str], ...]) -> tuple[float, float, float]:
        simulation = Simulation(specs=specs, policy=Ours, traffic=Traffic(90.0, zones=zones), seed=4)
        simulation.run(30.0)
        turns = [turn for turn in simulation.turns if turn.at >= 10.0]
        where = [simulation.replicas[turn.replica].spec for turn in turns]
        pairs = list(zip(turns, where, strict=True))
        zone = sum(turn.place == (spec.zone, spec.region) for turn, spec in pairs) / len(pairs)
        region = sum(turn.place[1] == spec.region for turn, spec in pairs) / len(pairs)
        assert not any(turn.failed for turn in turns)
        return zone, region, sum(turn.place[1] != spec.region for turn, spec in pairs) / len(pairs)

    zone, region, _ = served_in(places)
    assert zone > 0.9
    assert region > 0.99
    # All callers in one zone, with more than a quarter of the fleet can do: it overflows, into its region first.
    zone, region, far = served_in((("a1", "a"),))
    assert 0.3 < zone < 0.9
    assert region - zone > far


def test_the_same_seed_gives_the_same_history() -> None:
    def history() -> list[tuple[float, int]]:
        simulation = Simulation(
            specs=speeds(20), policy=partial(Ours, affinity=True), traffic=Traffic(20.0, turns=3.0), routers=2, seed=5
        )
        simulation.run(10.0)
        return simulation.sent

    assert history() == history()


def test_the_baselines_are_what_they_are_called() -> None:
    """Without this, a broken rival would prove anything."""
    assert set(POLICIES) == {"ours", "least_in_flight", "round_robin", "random"}
    turns = by_speed("round_robin", SMALL, load=0.3)
    assert turns["1x slow"] == pytest.approx(0.25, abs=0.01)
    assert turns["4x slow"] == pytest.approx(0.25, abs=0.01)
    quiet = Simulation(specs=[ReplicaSpec()] * 4, policy=POLICIES["least_in_flight"], traffic=Traffic(8.0), seed=6)
    quiet.run(WARM_S)
    # There was always a free slot, and it was always found: nobody waited for more than a prefill beside others.
    assert all(turn.first_token_s is not None for turn in quiet.turns)
