"""The choice of a replica: what a decision costs, and how it fares in a simulated fleet against simpler rules."""

from __future__ import annotations

import json
import random
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from bench.figures import brief, table
from bench.fleet_policies import POLICIES, Ours
from bench.fleet_simulation import (
    Policy,
    Replica,
    ReplicaSpec,
    Simulation,
    Traffic,
    capacity,
    shares,
    speeds,
    summary,
)
from services.router.fleet import Fleet
from services.router.model import ModelLoad, ReplicaReport, RouteQuery

WARM_S = 20.0
"""Of a simulation that are not counted."""


class Extent(NamedTuple):
    """How much is simulated."""

    replicas: int
    seconds: float
    seed: int


PolicyFactory = Callable[[Simulation, int], Policy]


def add_arguments(parser: ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--replicas", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=80.0, help="simulated seconds of each scenario")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9, help="of the timed decisions; figures are medians")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")


def run(arguments: Namespace) -> int:
    """Simulate, measure and print. Returns 1 when a request of ours found no replica."""
    extent = Extent(arguments.replicas, arguments.seconds, arguments.seed)
    figures: dict[str, list[dict[str, Any]]] = {
        "decision": [decision_cost(number, rounds=arguments.rounds) for number in (10, 100, 1000)],
        "speeds": [
            by_speed(rule, extent, load=load) for load in (0.4, 0.7, 0.9) for rule in POLICIES
        ],
        "routers": [
            by_speed(rule, extent, load=0.7, routers=count) for count in (4, 16) for rule in ("ours", "least_in_flight")
        ],
        "trouble": [
            trouble(rule, name, extent)
            for name in TROUBLES
            for rule in POLICIES
        ],
        "affinity": [
            affinity(rule, extent, routers=routers)
            for routers in (1, 4)
            for rule in ("told", "ours", "no affinity", "least_in_flight", "random")
        ],
    }  # fmt: skip
    if arguments.json:
        print(json.dumps(figures, indent=2))
    else:
        for name, rows in figures.items():
            print(f"\n{_HEADINGS[name]}\n")
            print(table(list(rows[0]), [[_cell(value) for value in row.values()] for row in rows]))
    ours = [row for rows in figures.values() for row in rows if row.get("rule") in ("ours", "told")]
    return 1 if any(row.get("failed") for row in ours) else 0


_HEADINGS = {
    "decision": "One decision, and one report taken in, in microseconds of CPU: median of rounds of 1,000.",
    "speeds": "Replicas of four speeds, each a quarter of the fleet: share of each, and time to the first token in ms.",
    "routers": "The same at 0.7, with several routers that do not talk to one another.",
    "trouble": "Equal replicas at 0.5 of their capacity; some of them get into trouble. Shares are theirs, of all that"
    " was sent in the second half second, and from 5 s to 20 s after; p99 of the time to the first token in ms before,"
    " in the first 5 s, and after. 10 of them slow down in `slow`.",
    "affinity": "Conversations of 5 turns at 0.7, a tenth of the turns forked. `told`: the caller knows the replica of"
    " the turn before. A hit finds at least half of what was said before in the cache; saved is of all prompt tokens.",
}


def decision_cost(number: int, *, rounds: int) -> dict[str, Any]:
    """What `Fleet.place` and `Fleet.report` cost with so many replicas."""
    fleet = Fleet(lease_ttl_s=10.0, settle_s=0.25, rng=random.Random(1))
    reports = [
        ReplicaReport(f"r{index}", False, {"m": ModelLoad(index % 3, 0, 8, first_token_ms=100.0 + index % 50)})
        for index in range(number)
    ]
    costs: dict[str, list[float]] = {"conversation": [], "alone": [], "report": []}
    for turn in range(rounds + 1):
        timed = {"report": 0.0}
        started = time.thread_time()
        for index, report in enumerate(reports):
            fleet.report(f"h{index}", report, now=float(turn))
        timed["report"] = (time.thread_time() - started) / number
        for kind in ("conversation", "alone"):
            queries = [
                RouteQuery(
                    f"g{turn}.{kind}.{at}", "m", affinity_keys=(f"c{at % 300}",) if kind == "conversation" else ()
                )
                for at in range(1000)
            ]
            started = time.thread_time()
            for query in queries:
                fleet.place(query, model="m", now=float(turn))
            timed[kind] = (time.thread_time() - started) / 1000
        # The first round makes everybody known.
        if turn:
            for kind, seconds in timed.items():
                costs[kind].append(seconds * 1e6)
    return {"replicas": number, **{f"{kind} us": statistics.median(values) for kind, values in costs.items()}}


def by_speed(rule: str, extent: Extent, *, load: float, routers: int = 1) -> dict[str, Any]:
    """A fleet of which equally many replicas are 1, 2, 3 and 4 times as slow, at a share of what it can do."""
    specs = speeds(extent.replicas)
    simulation = Simulation(
        specs=specs, policy=POLICIES[rule], traffic=_at(load, specs, Traffic(1.0)), routers=routers, seed=extent.seed
    )
    simulation.run(extent.seconds)
    told = summary(simulation.turns, since=WARM_S)
    share = shares(
        simulation, since=WARM_S, until=extent.seconds, of=lambda replica: f"{replica.spec.slowness:g}x slow"
    )
    return {
        "load": load,
        "routers": routers,
        "rule": rule,
        **{kind: share.get(kind, 0.0) for kind in ("1x slow", "2x slow", "3x slow", "4x slow")},
        "p50": told.p50_ms,
        "p99": told.p99_ms,
        "failed": told.failed,
    }


def _slow(simulation: Simulation) -> list[Replica]:
    chosen = simulation.replicas[: len(simulation.replicas) // 10]
    for replica in chosen:
        replica.slowness *= 10
    return chosen


def _kill(simulation: Simulation) -> list[Replica]:
    chosen = simulation.replicas[:1]
    simulation.kill(chosen[0])
    return chosen


def _hang(simulation: Simulation) -> list[Replica]:
    chosen = simulation.replicas[:1]
    simulation.hang(chosen[0])
    return chosen


def _drain(simulation: Simulation) -> list[Replica]:
    chosen = simulation.replicas[: len(simulation.replicas) * 3 // 10]
    simulation.drain(chosen)
    return chosen


def _fail(simulation: Simulation) -> list[Replica]:
    chosen = simulation.replicas[: max(1, len(simulation.replicas) * 3 // 100)]
    for replica in chosen:
        replica.failing = True
    return chosen


TROUBLES: Mapping[str, Callable[[Simulation], list[Replica]]] = {
    "slow": _slow,
    "kill": _kill,
    "hang": _hang,
    "drain 30%": _drain,
    "fail": _fail,
}
"""What happens to some replicas, and to which: one in ten becomes ten times as slow; one dies; one goes silent; three
in ten drain; the engines of three in a hundred fail at once on whatever they are sent."""


def trouble(rule: str, name: str, extent: Extent, *, routers: int = 1, load: float = 0.5) -> dict[str, Any]:
    """Equal replicas, to some of which something happens when the simulation is warm."""
    specs = [ReplicaSpec()] * extent.replicas
    simulation = Simulation(
        specs=specs, policy=POLICIES[rule], traffic=_at(load, specs, Traffic(1.0)), routers=routers, seed=extent.seed
    )
    hit: set[int] = set()
    simulation.after(WARM_S, lambda: hit.update(each.number for each in TROUBLES[name](simulation)))
    simulation.run(extent.seconds)

    def share(since: float, until: float) -> float:
        kinds = shares(simulation, since=since, until=until, of=lambda each: "hit" if each.number in hit else "well")
        return kinds.get("hit", 0.0)

    def p99(since: float, until: float) -> float:
        return summary(simulation.turns, since=since, until=until).p99_ms

    whole = summary(simulation.turns)
    return {
        "trouble": name,
        "rule": rule,
        "share before": share(WARM_S / 2, WARM_S),
        "0.5-1 s": share(WARM_S + 0.5, WARM_S + 1.0),
        "5-20 s": share(WARM_S + 5.0, WARM_S + 20.0),
        "p99 before": p99(WARM_S / 2, WARM_S),
        "p99 in it": p99(WARM_S, WARM_S + 5.0),
        "p99 after": p99(WARM_S + 5.0, extent.seconds),
        "retried": whole.retried,
        "failed": whole.failed,
    }


def affinity(rule: str, extent: Extent, *, routers: int, load: float = 0.7) -> dict[str, Any]:
    """Conversations of several turns, some of them forked, on replicas of four speeds."""
    specs = speeds(extent.replicas)
    traffic = Traffic(1.0, turns=5.0, fork_share=0.1)
    traffic = _at(load / traffic.turns / 1.75, specs, traffic)
    policy = _AFFINITIES.get(rule) or POLICIES[rule]
    simulation = Simulation(specs=specs, policy=policy, traffic=traffic, routers=routers, seed=extent.seed)
    simulation.run(extent.seconds)
    told = summary(simulation.turns, since=WARM_S)
    return {
        "routers": routers,
        "rule": rule,
        "hits": told.hit_rate,
        "of forks": told.fork_hit_rate,
        "saved": told.saved,
        "p50": told.p50_ms,
        "p99": told.p99_ms,
        "failed": told.failed,
    }


_AFFINITIES: dict[str, PolicyFactory] = {"told": partial(Ours, told=True), "no affinity": partial(Ours, affinity=False)}


def _at(load: float, specs: Sequence[ReplicaSpec], traffic: Traffic) -> Traffic:
    return replace(traffic, conversations_per_s=load * capacity(specs, traffic))


def _cell(value: object) -> str:
    return brief(value) if isinstance(value, float) else str(value)
