"""The fleet's live state, alone and under any order of events."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.draw import COMPARED_WHOLE
from services.router.fleet import Fleet
from services.router.group import Group, homes, ring_point
from services.router.model import BreakerState, ModelLoad, Placement, PoolPreference, ReplicaReport, RouteQuery
from services.router.placement import KNOWN_BOUND
from services.runtime.errors import DomainError, Reason

SUSPECT_S = 1.25


def load(
    running: int = 0,
    *,
    queued: int = 0,
    slots: int = 4,
    first_token_ms: float = 0.0,
    completed: int = 0,
    failed: int = 0,
) -> ModelLoad:
    return ModelLoad(
        running=running,
        queued=queued,
        slots=slots,
        first_token_ms=first_token_ms,
        completed=completed,
        failed=failed,
    )


def report(
    replica: str, *, draining: bool = False, pool: str = "", zone: str = "", region: str = "", **models: ModelLoad
) -> ReplicaReport:
    return ReplicaReport(
        replica_id=replica, draining=draining, models=models or {"m": load()}, pool=pool, zone=zone, region=region
    )


def empty(*, lease_ttl_s: float = 10.0, settle_s: float = 0.25, suspect_s: float = SUSPECT_S) -> Fleet:
    return Fleet(lease_ttl_s=lease_ttl_s, settle_s=settle_s, suspect_s=suspect_s, rng=random.Random(7))


def fleet_of(number: int, *, lease_ttl_s: float = 10.0, suspect_s: float = 1e9) -> Fleet:
    fleet = empty(lease_ttl_s=lease_ttl_s, suspect_s=suspect_s)
    for index in range(number):
        fleet.report(f"h{index}:1", report(f"r{index}"), now=0.0)
    return fleet


class Asking:
    """Asks a fleet, each time for a new generation."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.number = 0

    def place(
        self, *keys: str, now: float = 0.0, model: str = "m", pools: tuple[PoolPreference, ...] = (), **changes: object
    ) -> Placement | None:
        self.number += 1
        query = RouteQuery(generation_id=f"g{self.number}", model=model, affinity_keys=keys)
        return self.fleet.place(replace(query, **changes), model=model, pools=pools, now=now)  # type: ignore[arg-type]

    def route(self, *keys: str, **changes: object) -> str:
        placement = self.place(*keys, **changes)  # type: ignore[arg-type]
        assert placement is not None
        return placement.chosen.option.replica_id

    def rule(self, *keys: str, **changes: object) -> str:
        placement = self.place(*keys, **changes)  # type: ignore[arg-type]
        assert placement is not None
        return placement.rule

    def fail(self, replica_id: str, *, now: float) -> None:
        self.fleet.failed(replica_id, generation_id=f"g{self.number}", model="m", now=now)


def leased(fleet: Fleet, *, now: float = 0.0) -> int:
    return sum(model.leased for replica in fleet.view(now) for model in replica.models)


async def test_health_says_what_is_missing() -> None:
    fleet = empty()
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
    asking = Asking(fleet)
    assert fleet.ready("m") == 2
    fleet.report("h0:1", report("r0", draining=True), now=1.0)
    assert fleet.ready("m") == 1
    assert {asking.route(now=1.0) for _ in range(9)} == {"r1"}
    fleet.report("h0:1", report("r0"), now=2.0)
    assert fleet.ready("m") == 2
    fleet.report("h0:1", report("r0", other=load()), now=3.0)
    assert (fleet.ready("m"), fleet.ready("other")) == (1, 1)
    fleet.lose("h0:1")
    fleet.lose("h0:1")
    assert (fleet.ready("m"), fleet.ready("other"), fleet.reporting) == (1, 0, 1)
    assert asking.place(model="other") is None


def test_a_restarted_replica_owes_nothing() -> None:
    fleet = fleet_of(1)
    Asking(fleet).route()
    assert leased(fleet) == 1
    fleet.report("h0:1", report("reborn"), now=0.1)
    assert [(view.replica_id, view.models[0].leased) for view in fleet.view(0.1)] == [("reborn", 0)]


def test_excluded_replicas_and_those_that_cannot_are_left_out() -> None:
    fleet = fleet_of(3)
    asking = Asking(fleet)
    assert {asking.route(excluded_replica_ids=frozenset({"r0", "r2"})) for _ in range(5)} == {"r1"}
    assert asking.place(excluded_replica_ids=frozenset({"r0", "r1", "r2"})) is None
    tools = frozenset({"tools"})
    for index, abilities in enumerate((frozenset({"chat"}), frozenset({"chat", "tools"}))):
        able = report(f"r{index}", m=replace(load(), capabilities=abilities))
        fleet.report(f"h{index}:1", able, now=0.0)
    fleet.lose("h2:1")
    assert {asking.route(capabilities=tools) for _ in range(5)} == {"r1"}
    assert fleet.capabilities("m") == {"chat", "tools"}
    fleet.lose("h1:1")
    assert fleet.capabilities("m") == {"chat"}


# Leases


def test_a_lease_counts_until_the_report_counts_its_generation() -> None:
    fleet = fleet_of(1)
    Asking(fleet).route(now=1.0)
    fleet.report("h0:1", report("r0"), now=1.05)
    assert leased(fleet) == 1
    fleet.report("h0:1", report("r0", m=load(running=1)), now=1.1)
    assert leased(fleet) == 0


def test_short_requests_one_after_another_leave_nothing_behind() -> None:
    """Each has come and gone between two reports: only the totals tell of it."""
    fleet = fleet_of(1)
    asking = Asking(fleet)
    for number in range(1, 20):
        placement = asking.place(now=number * 0.1)
        assert placement is not None
        assert placement.chosen.option.in_flight == 0
        failed = number // 7
        fleet.report("h0:1", report("r0", m=load(completed=number - failed, failed=failed)), now=number * 0.1 + 0.09)


def test_a_burst_is_never_counted_short() -> None:
    """Reports come while generations are on their way: what they count and what is leased add up to all of them."""
    fleet = fleet_of(1)
    asking = Asking(fleet)
    sent = 0
    for arrived in (0, 3, 3, 7, 20, 50, 50):
        while sent < arrived + 10:
            asking.route(now=0.1)
            sent += 1
        fleet.report("h0:1", report("r0", m=load(running=min(4, arrived), queued=max(0, arrived - 4))), now=0.1)
        assert arrived + leased(fleet) == sent


def test_what_other_routers_send_settles_little_of_ours() -> None:
    fleet = fleet_of(1)
    asking = Asking(fleet)
    arrived = 0
    for turn in range(40):
        asking.route(now=turn * 1.0)
        arrived += 4
        fleet.report("h0:1", report("r0", m=load(completed=arrived)), now=turn + 0.5)
    for _ in range(8):
        asking.route(now=50.0)
    fleet.report("h0:1", report("r0", m=load(running=8, completed=arrived)), now=50.1)
    assert leased(fleet) in (5, 6)


def test_a_lease_of_which_nothing_is_heard_ends() -> None:
    fleet = fleet_of(1, lease_ttl_s=5)
    asking = Asking(fleet)
    asking.route(now=1.0)
    fleet.report("h0:1", report("r0"), now=1.2)
    assert leased(fleet) == 1
    fleet.report("h0:1", report("r0"), now=1.3)
    assert leased(fleet) == 0
    asking.route(now=2.0)
    placement = asking.place(now=7.0)
    assert placement is not None
    assert placement.chosen.option.in_flight == 0


def test_a_lease_for_what_has_failed_ends() -> None:
    fleet = fleet_of(2)
    asking = Asking(fleet)
    taken = asking.route()
    assert leased(fleet) == 1
    asking.fail(taken, now=0.1)
    assert leased(fleet) == 0
    assert fleet.outlook("m", now=0.1).in_flight == 0


@settings(deadline=None)
@given(st.integers(1, COMPARED_WHOLE), st.integers(1, 8))
def test_no_herd(replicas: int, each: int) -> None:
    """Requests that come between two reports spread evenly over equal replicas."""
    asking = Asking(fleet_of(replicas))
    taken = Counter(asking.route(now=0.5) for _ in range(replicas * each))
    assert set(taken.values()) == {each}
    assert len(taken) == replicas


@pytest.mark.parametrize("replicas", [100, 1000])
def test_no_herd_in_a_large_fleet(replicas: int) -> None:
    asking = Asking(fleet_of(replicas))
    taken = Counter(asking.route(now=0.5) for _ in range(replicas * 4))
    assert max(taken.values()) <= 8
    assert len(taken) > replicas * 0.9
    assert asking.rule() == "two_choices"


# Affinity


def test_a_conversation_meets_the_same_replica_again_and_so_does_its_fork() -> None:
    asking = Asking(fleet_of(100))
    homes_met = [asking.route("conversation", now=float(10 * turn)) for turn in range(1, 5)]
    assert len(set(homes_met)) == 1
    assert asking.route("fork", "conversation", now=60.0) == homes_met[0]
    assert asking.rule("fork", now=70.0) == "affinity"
    assert len({asking.route(f"c{number}", now=100.0) for number in range(400)}) > 90


def test_routers_that_do_not_talk_agree() -> None:
    """Each has a random source of its own."""
    fleets = []
    for seed in (1, 2):
        fleet = Fleet(lease_ttl_s=10, settle_s=0.25, rng=random.Random(seed))
        for index in range(100):
            fleet.report(f"h{index}:1", report(f"r{index}"), now=0.0)
        fleets.append(Asking(fleet))
    taken = [[asking.route(f"c{number}") for number in range(50)] for asking in fleets]
    assert taken[0] == taken[1]


def test_the_replica_of_the_turn_before_is_followed_when_the_caller_knows_it() -> None:
    asking = Asking(fleet_of(100))
    home = asking.route("c", now=1.0)
    elsewhere = "r7" if home != "r7" else "r8"
    assert asking.route("c", now=20.0, last_replica_id=elsewhere) == elsewhere
    assert asking.route("c", now=40.0) == elsewhere
    assert asking.route("c", now=60.0, last_replica_id="unknown") == elsewhere


def test_a_conversation_leaves_a_replica_that_is_loaded_beyond_the_bound() -> None:
    fleet = empty(suspect_s=1e9)
    for index in range(3):
        fleet.report(f"h{index}:1", report(f"r{index}", m=load(first_token_ms=200)), now=0.0)
    asking = Asking(fleet)
    home = asking.route("c")
    address = f"h{home[1:]}:1"
    within = int(4 * (KNOWN_BOUND - 1)) - 1
    fleet.report(address, report(home, m=load(running=4, queued=within - 4, first_token_ms=200)), now=1.0)
    assert asking.route("c", now=1.0) == home
    fleet.report(address, report(home, m=load(running=4, queued=within + 4, first_token_ms=200)), now=2.0)
    moved = asking.route("c", now=2.0)
    assert moved != home
    fleet.report(address, report(home, m=load(first_token_ms=200)), now=3.0)
    assert asking.route("c", now=3.0) == moved


def test_a_conversation_whose_replica_leaves_gets_a_new_home_and_keeps_it() -> None:
    fleet = fleet_of(100)
    asking = Asking(fleet)
    home = asking.route("c", now=1.0)
    fleet.lose(f"h{home[1:]}:1")
    second = asking.route("c", now=2.0)
    assert second != home
    fleet.report(f"h{home[1:]}:1", report(home), now=3.0)
    assert asking.route("c", now=20.0) == second


def test_homes_are_shared_out_evenly_and_few_move() -> None:
    fleet = fleet_of(50)
    group = fleet._groups["m"][0]
    points = [ring_point(str(number)) for number in range(2000)]
    before = [homes([group], point, 1)[0].site.replica_id for point in points]
    assert max(Counter(before).values()) < 3 * 2000 / 50
    fleet.lose("h3:1")
    after = [homes([group], point, 1)[0].site.replica_id for point in points]
    assert all(old == new for old, new in zip(before, after, strict=True) if old != "r3")


def test_several_groups_have_one_ring() -> None:
    together, apart = empty(), empty()
    for index in range(30):
        together.report(f"h{index}:1", report(f"r{index}"), now=0.0)
        apart.report(f"h{index}:1", report(f"r{index}", zone=f"z{index % 3}"), now=0.0)
    for number in range(200):
        point = ring_point(str(number))
        one = [seat.site.replica_id for seat in homes(together._groups["m"], point, 3)]
        assert one == [seat.site.replica_id for seat in homes(apart._groups["m"], point, 3)]


# Breakers and silence


def test_a_replica_that_fails_is_left_alone_then_probed_then_used() -> None:
    fleet = fleet_of(3)
    asking = Asking(fleet)
    for turn in range(3):
        asking.route(now=0.1 * turn, last_replica_id="r0")
        fleet.failed("r0", generation_id=f"g{asking.number}", model="m", now=0.1 * turn)
    assert {view.replica_id: view.models[0].breaker for view in fleet.view(0.5)} == {
        "r0": BreakerState.OPEN,
        "r1": BreakerState.CLOSED,
        "r2": BreakerState.CLOSED,
    }
    assert {asking.route(now=0.5) for _ in range(9)} == {"r1", "r2"}
    for done in (1, 2):
        # A request that has just failed is spared; the next one finds out, and no other before it has ended.
        assert asking.route(now=2.0, excluded_replica_ids=frozenset({"r1"})) == "r2"
        probe = asking.place(now=2.0)
        assert probe is not None
        assert (probe.chosen.option.replica_id, probe.rule) == ("r0", "breaker_probe")
        assert {asking.route(now=2.0) for _ in range(9)} == {"r1", "r2"}
        fleet.report("h0:1", report("r0", m=load(completed=done)), now=2.5)
    assert {asking.rule(now=2.5) for _ in range(9)} == {"least_wait"}
    assert "r0" in {asking.route(now=2.5) for _ in range(9)}


def test_when_all_have_failed_the_least_bad_is_used() -> None:
    fleet = fleet_of(2)
    asking = Asking(fleet)
    fleet.report("h1:1", report("r1", m=load(completed=3)), now=0.0)
    for turn in range(3):
        for replica in ("r0", "r1"):
            fleet.failed(replica, generation_id="", model="m", now=0.1 * turn)
    placement = asking.place(now=0.5)
    assert placement is not None
    assert (placement.chosen.option.replica_id, placement.rule) == ("r1", "breaker_bypass")
    query = RouteQuery(generation_id="g", model="m")
    assert fleet.place(query, model="m", bypass=False, now=0.5) is None
    assert fleet.outlook("m", now=0.5).wait_ms > 5000


def test_failures_are_held_against_the_model_that_failed() -> None:
    fleet = empty()
    for index in range(2):
        fleet.report(f"h{index}:1", report(f"r{index}", a=load(), b=load()), now=0.0)
    asking = Asking(fleet)
    for turn in range(3):
        placement = asking.place(model="a", now=0.1 * turn, last_replica_id="r0", affinity_keys=("c",))
        assert placement is not None
        fleet.failed("r0", generation_id=f"g{asking.number}", model="auto", now=0.1 * turn)
    states = {model.name: model.breaker for model in fleet.view(0.3)[0].models}
    assert states == {"a": BreakerState.OPEN, "b": BreakerState.CLOSED}


def test_a_failure_that_is_told_again_counts_once() -> None:
    """A call that cannot be served is made three times, each with the same failure in it."""
    fleet = fleet_of(2)
    asking = Asking(fleet)

    def failures() -> dict[str, float]:
        return {
            view.replica_id: seat.breaker.failure_rate(0.5)
            for view in fleet.view(0.5)
            for seat in fleet._by_id[view.replica_id].seats.values()
        }

    asking.route(last_replica_id="r0")
    generation = f"g{asking.number}"
    for _ in range(3):
        fleet.failed("r0", generation_id=generation, model="m", now=0.1)
        # The answer to the first call was lost: the generation is sent to the other one each time.
        query = RouteQuery(generation_id=generation, model="m", excluded_replica_ids=frozenset({"r0"}))
        placement = fleet.place(query, model="m", now=0.1)
        assert placement is not None
        assert placement.chosen.option.replica_id == "r1"
    assert {view.models[0].breaker for view in fleet.view(0.2)} == {BreakerState.CLOSED}
    assert failures() == {"r0": 1.0, "r1": 0.0}
    # Nobody else can: the same one is asked again, and what it fails then is another failure.
    for _ in range(2):
        fleet.failed("r1", generation_id=generation, model="m", now=0.2)
        query = RouteQuery(generation_id=generation, model="m", last_replica_id="r0")
        placement = fleet.place(query, model="m", now=0.2)
        assert placement is not None
        assert placement.chosen.option.replica_id == "r0"
        fleet.failed("r0", generation_id=generation, model="m", now=0.3)
    assert {view.replica_id: view.models[0].breaker for view in fleet.view(0.3)} == {
        "r0": BreakerState.OPEN,
        "r1": BreakerState.CLOSED,
    }


def test_failures_of_many_generations_are_all_counted() -> None:
    fleet = fleet_of(1)
    for number in range(3):
        assert fleet.view(0.1)[0].models[0].breaker is BreakerState.CLOSED
        fleet.failed("r0", generation_id=f"elsewhere{number}", model="m", now=0.1)
    assert fleet.view(0.1)[0].models[0].breaker is BreakerState.OPEN


def test_a_failure_of_nobody_known_is_no_error() -> None:
    fleet_of(1).failed("r9", generation_id="g", model="m", now=0.0)


@pytest.mark.parametrize("others", [1, 40])
def test_a_silent_replica_is_passed_over_while_there_are_others(others: int) -> None:
    fleet = fleet_of(others + 1, suspect_s=SUSPECT_S)
    asking = Asking(fleet)
    for index in range(1, others + 1):
        fleet.report(f"h{index}:1", report(f"r{index}"), now=1.0)
    assert "r0" in {asking.route(now=1.2) for _ in range(others * 8)}
    assert "r0" not in {asking.route(now=1.3) for _ in range(others * 8)}
    for index in range(1, others + 1):
        fleet.lose(f"h{index}:1")
    assert asking.route(now=1.4) == "r0"


# Places


def placed(zone: str, region: str, number: int) -> Fleet:
    fleet = empty(suspect_s=1e9)
    for index in range(number):
        for far, (to_zone, to_region) in enumerate(((zone, region), (f"{zone}'", region), ("x1", "x"))):
            name = f"{'near,zone,far'.split(',')[far]}{index}"
            fleet.report(name, report(name, zone=to_zone, region=to_region, m=load(first_token_ms=100)), now=0.0)
    return fleet


@pytest.mark.parametrize("number", [1, 30])
def test_near_replicas_come_first(number: int) -> None:
    fleet = placed("a1", "a", number)
    asking = Asking(fleet)
    here = {"zone": "a1", "region": "a"}
    assert asking.route(**here).startswith("near")
    assert asking.route("c1", **here).startswith("near")
    for index in range(number):
        fleet.lose(f"near{index}")
    assert asking.route(**here).startswith("zone")
    assert asking.route("c2", **here).startswith("zone")
    for index in range(number):
        fleet.lose(f"zone{index}")
    assert asking.route("c1", **here).startswith("far")


def test_a_busy_zone_overflows_into_its_region_and_then_anywhere() -> None:
    asking = Asking(placed("a1", "a", 1))
    taken = [asking.route(zone="a1", region="a")[:-1] for _ in range(12)]
    assert taken[0] == "near"
    assert taken.index("near") < taken.index("zone") < taken.index("far")


@pytest.mark.parametrize("number", [1, 30])
def test_residency_is_a_hard_rule(number: int) -> None:
    fleet = placed("a1", "a", number)
    asking = Asking(fleet)
    for _ in range(number * 20):
        assert asking.route("c", zone="a1", region="a", allowed_regions=frozenset({"x"})).startswith("far")
    assert fleet.ready("m", allowed_regions=frozenset({"x"})) == number
    known = asking.route("d", zone="a1", region="a")
    assert known.startswith("near")
    assert asking.route("d", last_replica_id=known, allowed_regions=frozenset({"x"})).startswith("far")
    assert asking.place(allowed_regions=frozenset({"eu"})) is None
    assert asking.place(allowed_regions=frozenset()) is None


# Pools


POOLS = (PoolPreference("fast", 0.5), PoolPreference("slow", 2.0), PoolPreference("spare", 1.0))


def pooled(*running: int) -> Fleet:
    fleet = empty(suspect_s=1e9)
    for pool, busy in zip(POOLS, running, strict=False):
        fleet.report(pool.name, report(pool.name, pool=pool.name, m=load(busy)), now=0.0)
    return fleet


@pytest.mark.parametrize(
    ("running", "taken"),
    [((0, 0, 0), "fast"), ((1, 0, 0), "fast"), ((2, 0, 0), "slow"), ((2, 2, 0), "fast"), ((9, 8, 0), "spare")],
)
def test_a_pool_that_is_full_spills_into_the_next(running: tuple[int, ...], taken: str) -> None:
    assert Asking(pooled(*running)).route(pools=POOLS) == taken


def test_a_pool_that_is_down_or_failing_is_left_for_the_next() -> None:
    fleet = pooled(0, 0)
    asking = Asking(fleet)
    for _ in range(3):
        fleet.failed("fast", generation_id="", model="m", now=0.0)
    assert asking.route(pools=POOLS, now=0.1) == "slow"
    fleet.lose("slow")
    assert asking.rule(pools=POOLS, now=0.1) == "breaker_bypass"
    fleet.lose("fast")
    assert asking.place(pools=POOLS) is None
    fleet.report("other", report("other", pool="other"), now=0.2)
    assert asking.place(pools=POOLS) is None
    assert asking.route(now=0.2) == "other"


def test_the_outlook_of_pools() -> None:
    fleet = pooled(1, 3)
    Asking(fleet).route(pools=POOLS)
    fast = fleet.outlook("m", pools=POOLS[:1], now=0.0)
    assert (fast.ready, fast.slots, fast.in_flight, fast.load) == (1, 4, 2, 0.5)
    both = fleet.outlook("m", pools=POOLS, now=0.0)
    assert (both.ready, both.slots, both.in_flight) == (2, 8, 5)
    assert fleet.outlook("none", now=0.0).ready == 0


def test_the_view_tells_all() -> None:
    fleet = pooled(1, 3)
    Asking(fleet).route(pools=POOLS[:1])
    fleet.report("slow", report("slow", pool="slow", draining=True), now=0.5)
    fast, slow = fleet.view(2.0)
    assert (fast.replica_id, fast.pool, fast.draining, fast.silent_ms) == ("fast", "fast", False, 2000.0)
    assert (fast.models[0].name, fast.models[0].leased, fast.models[0].load.running) == ("m", 1, 1)
    assert fast.models[0].score == 1.5
    assert (slow.replica_id, slow.draining, slow.silent_ms) == ("slow", True, 1500.0)


def test_a_slow_answer_does_not_keep_a_replica_out_of_use() -> None:
    fleet = empty(suspect_s=1e9)
    fleet.report("h0:1", report("r0", m=load(first_token_ms=5000)), now=0.0)
    fleet.report("h1:1", report("r1", m=load(running=1, first_token_ms=50)), now=0.0)
    asking = Asking(fleet)
    assert asking.route(now=0.0) == "r1"
    assert asking.route(now=200.0) == "r0"


def test_the_wait_for_a_slot_is_not_held_against_a_replica_twice() -> None:
    """One was crowded a moment ago: its last ones waited long, and it serves as fast as the other."""
    fleet = empty(suspect_s=1e9)
    crowded = replace(load(first_token_ms=3100), queue_wait_ms=3000.0)
    fleet.report("h0:1", report("r0", m=crowded), now=0.0)
    fleet.report("h1:1", report("r1", m=load(running=1, first_token_ms=100)), now=0.0)
    assert Asking(fleet).route() == "r0"


def test_how_long_generations_hold_a_slot_is_learnt_from_the_reports() -> None:
    fleet = empty(suspect_s=1e9)
    for second in range(20):
        fleet.report("h0:1", report("r0", m=load(4, first_token_ms=100, completed=2 * second)), now=float(second))
    placement = Asking(fleet).place(now=19.0)
    assert placement is not None
    # Four run and two end in a second: each takes two.
    assert placement.chosen.option.hold_ms == pytest.approx(2000, rel=0.2)


events = st.lists(
    st.one_of(
        st.tuples(st.just("report"), st.integers(0, 5), st.booleans(), st.integers(0, 9)),
        st.tuples(st.just("restart"), st.integers(0, 5), st.booleans(), st.integers(0, 9)),
        st.tuples(st.just("lose"), st.integers(0, 5)),
        st.tuples(st.just("fail"), st.integers(0, 5)),
        st.tuples(st.just("route"), st.integers(0, 99)),
        st.tuples(st.just("wait"), st.floats(0, 20)),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(events)
def test_any_order_of_events(history: list[tuple[object, ...]]) -> None:
    """A generation goes to a replica that reports and does not drain whenever there is one, and the sums stay true."""
    fleet = empty()
    asking = Asking(fleet)
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
                said = report(replica, draining=draining, zone=f"z{index % 2}", m=load(running))
                fleet.report(address, said, now=now)
                known[address] = (replica, draining, running)
            case ("lose", int(index)):
                fleet.lose(f"h{index}")
                known.pop(f"h{index}", None)
            case ("fail", int(index)):
                if f"h{index}" in known:
                    asking.fail(known[f"h{index}"][0], now=now)
            case ("route", int(number)):
                ready = {replica: running for replica, draining, running in known.values() if not draining}
                placement = asking.place(f"c{number}", now=now, zone="z1")
                assert (placement is None) is (not ready)
                if placement is not None:
                    assert {candidate.option.replica_id for candidate in placement.ranked} <= set(ready)
                    option = placement.chosen.option
                    assert option.in_flight >= ready[option.replica_id]
            case ("wait", float(seconds)):
                now += seconds
        assert fleet.reporting == len(known)
        groups: list[Group] = fleet._groups.get("m", [])
        seats = [seat for group in groups for seat in group.ready]
        assert sorted(seat.site.replica_id for seat in seats) == sorted(
            replica for replica, draining, _ in known.values() if not draining
        )
        assert fleet.ready("m") == len(seats)
        assert sum(group.in_flight for group in groups) == sum(seat.in_flight for seat in seats)
        assert sum(group.slots for group in groups) == sum(seat.load.slots for seat in seats)
