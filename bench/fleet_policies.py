"""Who chooses in a simulated fleet: the Router's own code, and what it is compared with."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from bench.fleet_simulation import MODEL, Policy, Replica, Simulation, Turn
from services.router.fleet import Fleet
from services.router.model import ReplicaReport, RouteQuery


class Ours:
    """The Router's own fleet."""

    def __init__(self, simulation: Simulation, number: int, *, affinity: bool = True, told: bool = False) -> None:
        self.fleet = Fleet(lease_ttl_s=10.0, settle_s=0.25, rng=random.Random(f"{simulation.rng.random()} {number}"))
        self._affinity = affinity
        self._told = told

    def report(self, replica: Replica, report: ReplicaReport, now: float) -> None:
        self.fleet.report(replica.address, report, now=now)

    def lose(self, replica: Replica) -> None:
        self.fleet.lose(replica.address)

    def ended(self, replica: Replica) -> None:
        pass

    def choose(self, turn: Turn, failed: str, now: float) -> tuple[int, str] | None:
        keys = (turn.conversation, turn.source) if turn.source != turn.conversation else (turn.conversation,)
        generation = f"g{turn.number}"
        if failed:
            self.fleet.failed(failed, generation_id=generation, model=MODEL, now=now)
        query = RouteQuery(
            generation_id=generation,
            model=MODEL,
            affinity_keys=tuple(key for key in keys if key) if self._affinity else (),
            excluded_replica_ids=turn.excluded,
            failed_replica_id=failed,
            last_replica_id=turn.last_replica if self._told else "",
            zone=turn.place[0],
            region=turn.place[1],
        )
        placement = self.fleet.place(query, model=MODEL, now=now)
        if placement is None:
            return None
        return int(placement.chosen.option.replica_id[1:]), placement.rule


class Plain:
    """What a proxy does. It leaves out what drains or is gone, as soon as ours hears of it."""

    def __init__(self, simulation: Simulation, number: int, *, rule: str) -> None:
        self._rule = rule
        self._rng = random.Random(f"{simulation.rng.random()} {number}")
        self._ready: list[int] = []
        self._in_flight: Counter[int] = Counter()
        self._next = int(self._rng.random() * 1000)
        self._names = {replica.number: replica.name for replica in simulation.replicas}

    def report(self, replica: Replica, report: ReplicaReport, _now: float) -> None:
        if report.draining:
            self.lose(replica)
        elif replica.number not in self._ready:
            self._ready.append(replica.number)

    def lose(self, replica: Replica) -> None:
        if replica.number in self._ready:
            self._ready.remove(replica.number)

    def ended(self, replica: Replica) -> None:
        self._in_flight[replica.number] -= 1

    def choose(self, turn: Turn, _failed: str, _now: float) -> tuple[int, str] | None:
        ready = (
            [number for number in self._ready if self._names[number] not in turn.excluded]
            if turn.excluded
            else self._ready
        )
        if not ready:
            return None
        match self._rule:
            case "random":
                chosen = ready[int(self._rng.random() * len(ready))]
            case "round_robin":
                self._next += 1
                chosen = ready[self._next % len(ready)]
            case _:
                start = int(self._rng.random() * len(ready))
                chosen = min(ready[start:] + ready[:start], key=self._in_flight.__getitem__)
        self._in_flight[chosen] += 1
        return chosen, self._rule


POLICIES: dict[str, Callable[[Simulation, int], Policy]] = {
    "ours": Ours,
    "least_in_flight": lambda simulation, number: Plain(simulation, number, rule="least_in_flight"),
    "round_robin": lambda simulation, number: Plain(simulation, number, rule="round_robin"),
    "random": lambda simulation, number: Plain(simulation, number, rule="random"),
}
