"""The fleet's live state, alone and under any order of events."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.fleet import WINDOW, Fleet
from services.router.model import ModelLoad, ReplicaReport
from services.router.placement import place
from services.runtime.errors import DomainError, Reason


def load(running: int = 0, *, queued: int = 0, slots: int = 4, first_token_ms: float = 0.0) -> ModelLoad:
    return ModelLoad(running=running, queued=queued, slots=slots, first_token_ms=first_token_ms)


def report(replica: str, *, draining: bool = False, **models: ModelLoad) -> ReplicaReport:
    return ReplicaReport(replica_id=replica, draining=draining, models=models or {"m": load()})


def fleet_of(number: int, **changes: float) -> Fleet:
    fleet = Fleet(lease_ttl_s=changes.get("lease_ttl_s", 10.0), settle_s=changes.get("settle_s", 0.25))
    for index in range(number):
        fleet.report(f"h{index}:1", report(f"r{index}"), now=0.0)
    return fleet


def route(fleet: Fleet, *, key: str, now: float, sticky: bool = False) -> str:
    placement = place(fleet.options("m", key=key, excluded=(), now=now), sticky=sticky)
    assert placement is not None
    fleet.count_lease("m", placement.chosen.option, now=now)
    return placement.chosen.option.replica_id


def in_flight(fleet: Fleet, *, now: float) -> int:
    return sum(option.in_flight for option in fleet.options("m", key="k", excluded=(), now=now))


async def test_health_says_what_is_missing() -> None:
    fleet = Fleet(lease_ttl_s=10, settle_s=0)
    with pytest.raises(DomainError) as missing:
        await fleet.check()
    assert missing.value.reason is Reason.NO_REPLICA
    fleet.report("h:1", report("r"), now=0.0)
    await fleet.check()
    fleet.lose("h:1")
    with pytest.raises(DomainError):
        await fleet.check()


def test_a_replica_comes_drains_changes_and_goes() -> None:
    fleet = fleet_of(2)
    assert fleet.ready("m") == 2
    fleet.report("h0:1", report("r0", draining=True), now=1.0)
    assert fleet.ready("m") == 1
    assert [option.replica_id for option in fleet.options("m", key="k", excluded=(), now=1.0)] == ["r1"]
    fleet.report("h0:1", report("r0"), now=2.0)
    assert fleet.ready("m") == 2
    fleet.report("h0:1", report("r0", other=load()), now=3.0)
    assert (fleet.ready("m"), fleet.ready("other")) == (1, 1)
    fleet.lose("h0:1")
    fleet.lose("h0:1")
    assert (fleet.ready("m"), fleet.ready("other"), fleet.reporting) == (1, 0, 1)


def test_a_restarted_replica_owes_nothing() -> None:
    fleet = fleet_of(1)
    route(fleet, key="k", now=0.0)
    assert in_flight(fleet, now=0.1) == 1
    fleet.report("h0:1", report("reborn"), now=0.1)
    options = fleet.options("m", key="k", excluded=(), now=0.1)
    assert [(option.replica_id, option.in_flight) for option in options] == [("reborn", 0)]


def test_excluded_replicas_are_left_out() -> None:
    fleet = fleet_of(3)
    options = fleet.options("m", key="k", excluded={"r0", "r2"}, now=0.0)
    assert [option.replica_id for option in options] == ["r1"]


def test_a_lease_counts_until_a_report_can_know_of_it() -> None:
    fleet = fleet_of(1)
    route(fleet, key="k", now=1.0)
    assert in_flight(fleet, now=1.0) == 1
    fleet.report("h0:1", report("r0"), now=1.2)
    assert in_flight(fleet, now=1.2) == 1
    fleet.report("h0:1", report("r0", m=load(running=1)), now=1.3)
    assert in_flight(fleet, now=1.3) == 1


def test_a_lease_that_comes_to_nothing_expires() -> None:
    fleet = fleet_of(1, lease_ttl_s=5)
    route(fleet, key="k", now=1.0)
    assert in_flight(fleet, now=5.9) == 1
    assert in_flight(fleet, now=6.0) == 0


def test_a_lease_for_a_replica_that_has_gone_is_no_error() -> None:
    fleet = fleet_of(1)
    option = fleet.options("m", key="k", excluded=(), now=0.0)[0]
    fleet.lose("h0:1")
    fleet.count_lease("m", option, now=0.0)
    assert fleet.ready("m") == 0


@settings(deadline=None)
@given(st.integers(1, WINDOW), st.integers(1, 8))
def test_no_herd(replicas: int, each: int) -> None:
    """Requests that come between two reports spread evenly over equal replicas, whatever their keys are."""
    fleet = fleet_of(replicas)
    taken = Counter(route(fleet, key=f"g{number}", now=0.5) for number in range(replicas * each))
    assert set(taken.values()) == {each}
    assert len(taken) == replicas


@pytest.mark.parametrize("replicas", [100, 1000])
def test_no_herd_in_a_fleet_larger_than_the_window(replicas: int) -> None:
    fleet = fleet_of(replicas)
    taken = Counter(route(fleet, key=f"g{number}", now=0.5) for number in range(replicas * 4))
    assert max(taken.values()) <= 8
    assert len(taken) > replicas * 0.9


def test_a_conversation_meets_the_same_replica_again() -> None:
    fleet = fleet_of(20)
    homes = [route(fleet, key="conversation", now=float(10 * turn), sticky=True) for turn in range(1, 5)]
    assert len(set(homes)) == 1
    assert len({route(fleet, key=f"c{number}", now=100.0, sticky=True) for number in range(200)}) == 20


def test_a_conversation_keeps_its_home_when_others_come_and_go() -> None:
    fleet = fleet_of(20)
    home = route(fleet, key="conversation", now=20.0, sticky=True)
    order = [option.replica_id for option in fleet.options("m", key="conversation", excluded=(), now=40.0)]
    assert order[0] == home
    for index in range(20):
        if f"r{index}" not in order[:2]:
            fleet.lose(f"h{index}:1")
    fleet.report(f"h{home[1:]}:1", report(home), now=60.0)
    assert route(fleet, key="conversation", now=60.0, sticky=True) == home
    fleet.lose(f"h{home[1:]}:1")
    assert route(fleet, key="conversation", now=60.0, sticky=True) == order[1]


def test_a_slow_answer_does_not_keep_a_replica_out_of_use() -> None:
    fleet = Fleet(lease_ttl_s=10, settle_s=0)
    fleet.report("h0:1", report("r0", m=load(first_token_ms=5000)), now=0.0)
    fleet.report("h1:1", report("r1", m=load(running=1, first_token_ms=50)), now=0.0)
    assert route(fleet, key="k", now=0.0) == "r1"
    assert route(fleet, key="k", now=200.0) == "r0"


events = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.integers(0, 5), st.booleans(), st.integers(0, 9)),
        st.tuples(st.just("restart"), st.integers(0, 5), st.booleans(), st.integers(0, 9)),
        st.tuples(st.just("lose"), st.integers(0, 5)),
        st.tuples(st.just("route"), st.integers(0, 99)),
        st.tuples(st.just("wait"), st.floats(0, 20)),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(events)
def test_any_order_of_events(history: list[tuple[object, ...]]) -> None:
    """Only replicas that report and do not drain are offered, each once, with no less load than they reported."""
    fleet = Fleet(lease_ttl_s=10, settle_s=0.25)
    known: dict[str, tuple[str, bool, int]] = {}
    births = 0
    now = 0.0
    for event in history:
        match event:
            case ("report" | "restart" as kind, int(index), bool(draining), int(running)):
                address = f"h{index}"
                births += kind == "restart"
                previous = known.get(address)
                replica = previous[0] if previous and kind == "report" else f"r{index}.{births}"
                fleet.report(address, report(replica, draining=draining, m=load(running)), now=now)
                known[address] = (replica, draining, running)
            case ("lose", int(index)):
                fleet.lose(f"h{index}")
                known.pop(f"h{index}", None)
            case ("route", int(number)):
                ready = {replica: running for replica, draining, running in known.values() if not draining}
                options = fleet.options("m", key=str(number), excluded=(), now=now)
                assert sorted(option.replica_id for option in options) == sorted(ready)
                assert all(option.in_flight >= ready[option.replica_id] for option in options)
                assert fleet.ready("m") == len(ready)
                if options:
                    fleet.count_lease("m", options[0], now=now)
            case ("wait", float(seconds)):
                now += seconds
        assert fleet.reporting == len(known)
