"""A fleet on a simulated clock: simulated replicas and callers around the Router's own `Fleet`.

A replica has slots, a queue, a cache of prompts, and a speed. It reports what a real one reports, as often. Everything
follows from the seed; no time passes.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from bench.figures import percentile
from services.router.model import ModelLoad, ReplicaReport

MODEL = "m"
HEARTBEAT_S = 0.5
GATHER_S = 0.1
NETWORK_S = 0.001
SILENCE_S = 3.0
AVERAGE_WEIGHT = 0.2
"""As in the Inference service."""
ATTEMPTS = 4
STEP_MS = 20.0
"""Of a prefill, whatever its length."""


@dataclass(frozen=True)
class ReplicaSpec:
    """A replica. `slowness` multiplies all its times."""

    slowness: float = 1.0
    slots: int = 8
    prefill_per_s: float = 4000.0
    decode_per_s: float = 50.0
    cached_prompts: int = 400
    zone: str = ""
    region: str = ""


@dataclass(frozen=True)
class Traffic:
    """Conversations that begin at random times; each has some turns, and some are forked."""

    conversations_per_s: float
    turns: float = 1.0
    """Mean number."""
    think_s: float = 8.0
    fork_share: float = 0.0
    """Turns after which a second conversation goes on from the same place."""
    prompt_tokens: float = 400.0
    """Mean of a turn's own text; what was said before comes on top."""
    answer_tokens: float = 100.0
    lease_to_arrival_s: float = 0.015
    """Mean time from the router's answer to the arrival at the replica."""
    zones: tuple[tuple[str, str], ...] = (("", ""),)
    """Where callers are, (zone, region), equally often."""
    cross_zone_s: float = 0.001
    cross_region_s: float = 0.08


@dataclass
class Turn:
    """One generation and what became of it."""

    number: int
    at: float
    conversation: str
    source: str
    prompt_tokens: int
    shared_tokens: int
    """Of the prompt, with what its conversation or the one that was forked has said."""
    answer_tokens: int
    forked: bool
    place: tuple[str, str]
    last_replica: str = ""
    excluded: frozenset[str] = frozenset()
    attempts: int = 0
    router: int = 0
    replica: int = -1
    rule: str = ""
    cached_tokens: int = 0
    first_token_s: float | None = None
    left_s: float = 0.0
    failed: bool = False


class Policy(Protocol):
    """A router: hears reports, chooses."""

    def report(self, replica: Replica, report: ReplicaReport, now: float, /) -> None: ...
    def lose(self, replica: Replica) -> None: ...
    def ended(self, replica: Replica) -> None: ...
    def choose(self, turn: Turn, failed: str, now: float, /) -> tuple[int, str] | None: ...


class Replica:
    """A simulated replica."""

    def __init__(self, number: int, spec: ReplicaSpec, simulation: Simulation) -> None:
        self.number = number
        self.name = f"r{number}"
        self.address = f"h{number}:1"
        self.spec = spec
        self.slowness = spec.slowness
        self.draining = False
        self.dead = False
        self.hung = False
        self.failing = False
        self._simulation = simulation
        self._running: set[int] = set()
        self._turns: dict[int, Turn] = {}
        self._queue: deque[tuple[Turn, float]] = deque()
        self._cache: OrderedDict[str, int] = OrderedDict()
        self._completed = 0
        self._failed = 0
        self._first_token_ms = 0.0
        self._queue_wait_ms = 0.0
        self._known = False
        self._last_said = -1.0
        self._will_say = False

    def state(self) -> ReplicaReport:
        return ReplicaReport(
            replica_id=self.name,
            draining=self.draining,
            models={
                MODEL: ModelLoad(
                    running=len(self._running),
                    queued=len(self._queue),
                    slots=self.spec.slots,
                    first_token_ms=self._first_token_ms,
                    queue_wait_ms=self._queue_wait_ms,
                    completed=self._completed,
                    failed=self._failed,
                )
            },
            zone=self.spec.zone,
            region=self.spec.region,
        )

    def heartbeat(self) -> None:
        if self.dead:
            return
        self._say()
        self._simulation.after(HEARTBEAT_S, self.heartbeat)

    def changed(self) -> None:
        """Tell the routers, gathered."""
        if self._will_say or self.dead:
            return
        self._will_say = True
        wait_s = max(0.0, self._last_said + GATHER_S - self._simulation.now)
        self._simulation.after(wait_s, self._say)

    def _say(self) -> None:
        self._will_say = False
        self._last_said = self._simulation.now
        if not self.dead and not self.hung:
            self._simulation.tell(self, self.state())

    def arrive(self, turn: Turn) -> None:
        simulation = self._simulation
        if self.dead or self.draining:
            simulation.refused(self, turn)
            return
        if self.failing:
            self._failed += 1
            self.changed()
            simulation.after(NETWORK_S, lambda: simulation.refused(self, turn))
            return
        self._turns[turn.number] = turn
        self._queue.append((turn, simulation.now))
        self._start()
        self.changed()

    def die(self) -> None:
        """It is gone, and its streams break."""
        self.dead = True
        turns, self._turns = list(self._turns.values()), {}
        self._running.clear()
        self._queue.clear()
        for turn in turns:
            self._simulation.refused(self, turn)

    def _start(self) -> None:
        while self._queue and len(self._running) < self.spec.slots:
            turn, came = self._queue.popleft()
            self._running.add(turn.number)
            cached = max(
                min(self._cache.get(turn.conversation, 0), turn.shared_tokens),
                min(self._cache.get(turn.source, 0), turn.shared_tokens),
            )
            turn.cached_tokens = cached
            crowd = 1.0 + 0.5 * (len(self._running) - 1) / self.spec.slots
            prefill_s = STEP_MS / 1000 + (turn.prompt_tokens - cached) / self.spec.prefill_per_s
            took_s = self.slowness * crowd * prefill_s
            waited_s = self._simulation.now - came
            self._simulation.after(took_s, partial(self._first_token, turn, waited_s, took_s))

    def _first_token(self, turn: Turn, waited_s: float, took_s: float) -> None:
        if turn.number not in self._turns:
            return
        if turn.first_token_s is None:
            turn.first_token_s = self._simulation.now - turn.at + turn.left_s
            self._simulation.answered()
        weight = AVERAGE_WEIGHT if self._known else 1.0
        self._known = True
        self._first_token_ms += ((waited_s + took_s) * 1000 - self._first_token_ms) * weight
        self._queue_wait_ms += (waited_s * 1000 - self._queue_wait_ms) * weight
        self.changed()
        decode_s = self.slowness * turn.answer_tokens / self.spec.decode_per_s
        self._simulation.after(decode_s, lambda: self._end(turn))

    def _end(self, turn: Turn) -> None:
        if self._turns.pop(turn.number, None) is None:
            return
        self._running.discard(turn.number)
        self._completed += 1
        self._cache[turn.conversation] = turn.prompt_tokens + turn.answer_tokens
        self._cache.move_to_end(turn.conversation)
        if turn.source in self._cache:
            self._cache.move_to_end(turn.source)
        while len(self._cache) > self.spec.cached_prompts:
            self._cache.popitem(last=False)
        self._start()
        self.changed()
        self._simulation.ended(self, turn)


class Simulation:
    """Replicas, routers and traffic on one clock."""

    def __init__(
        self,
        *,
        specs: Sequence[ReplicaSpec],
        policy: Callable[[Simulation, int], Policy],
        traffic: Traffic,
        routers: int = 1,
        seed: int = 1,
    ) -> None:
        self.now = 0.0
        self.rng = random.Random(seed)
        self.turns: list[Turn] = []
        self.sent: list[tuple[float, int]] = []
        """Every attempt: when, and to which replica."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._traffic = traffic
        self._conversations = itertools.count()
        self._until = 0.0
        self._open = 0
        """Turns that have neither a first token nor failed."""
        self.replicas = [Replica(number, spec, self) for number, spec in enumerate(specs)]
        self.policies = [policy(self, number) for number in range(routers)]
        for each in self.replicas:
            # At once, so that all are known when traffic begins; the next ones at different times.
            self.tell(each, each.state())
            self.after(self.rng.random() * HEARTBEAT_S, each.heartbeat)

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._events, (self.now + seconds, next(self._order), what))

    def run(self, seconds: float) -> None:
        """Let traffic come for so long, and what has come by then end."""
        self._until = seconds
        self.after(self._gap_s(), self._begin_conversation)
        while self._events and (self.now < seconds or (self._open and self.now < seconds * 2 + 60)):
            self.now, _, what = heapq.heappop(self._events)
            what()

    def answered(self) -> None:
        """A turn has its first token."""
        self._open -= 1

    def tell(self, replica: Replica, report: ReplicaReport) -> None:
        def deliver() -> None:
            if not replica.dead:
                for policy in self.policies:
                    policy.report(replica, report, self.now)

        self.after(NETWORK_S, deliver)

    def kill(self, replica: Replica) -> None:
        """The process is gone: its streams break at once."""
        replica.die()
        for policy in self.policies:
            policy.lose(replica)

    def hang(self, replica: Replica) -> None:
        """Its host is gone without a word: nobody is told, and what is sent there fails after a second."""
        replica.hung = True
        replica.dead = True

        def silent() -> None:
            for policy in self.policies:
                policy.lose(replica)

        self.after(SILENCE_S, silent)
        self.after(1.0, replica.die)

    def drain(self, replicas: Iterable[Replica]) -> None:
        """They take no new work from now on."""
        for replica in replicas:
            replica.draining = True
            replica.changed()

    def refused(self, replica: Replica, turn: Turn) -> None:
        """The attempt has failed; the next one is made."""
        self.policies[turn.router].ended(replica)
        turn.excluded |= {replica.name}
        self._route(turn, failed="" if replica.draining else replica.name)

    def ended(self, replica: Replica, turn: Turn) -> None:
        """An answer is complete; perhaps there is another turn, or two."""
        self.policies[turn.router].ended(replica)
        traffic = self._traffic
        if self.rng.random() < 1.0 - 1.0 / traffic.turns:
            self._next_turn(turn, turn.conversation, forked=False)
        if self.rng.random() < traffic.fork_share:
            self._next_turn(turn, f"c{next(self._conversations)}", forked=True)

    def _next_turn(self, turn: Turn, conversation: str, *, forked: bool) -> None:
        shared = turn.prompt_tokens + turn.answer_tokens
        wait_s = self.rng.expovariate(1.0 / self._traffic.think_s)
        self.after(
            wait_s,
            lambda: self._ask(
                conversation,
                source=turn.conversation,
                shared=shared,
                forked=forked,
                place=turn.place,
                last_replica=f"r{turn.replica}",
            ),
        )

    def _gap_s(self) -> float:
        return self.rng.expovariate(self._traffic.conversations_per_s)

    def _begin_conversation(self) -> None:
        if self.now >= self._until:
            return
        self._ask(
            f"c{next(self._conversations)}",
            source="",
            shared=0,
            forked=False,
            place=self.rng.choice(self._traffic.zones),
        )
        self.after(self._gap_s(), self._begin_conversation)

    def _ask(
        self,
        conversation: str,
        *,
        source: str,
        shared: int,
        forked: bool,
        place: tuple[str, str],
        last_replica: str = "",
    ) -> None:
        if self.now >= self._until:
            return
        traffic = self._traffic
        turn = Turn(
            number=len(self.turns),
            at=self.now,
            conversation=conversation,
            source=source,
            prompt_tokens=shared + 1 + int(self.rng.expovariate(1 / traffic.prompt_tokens)),
            shared_tokens=shared,
            answer_tokens=1 + int(self.rng.expovariate(1 / traffic.answer_tokens)),
            forked=forked,
            place=place,
            last_replica=last_replica,
        )
        self.turns.append(turn)
        self._open += 1
        self._route(turn, failed="")

    def _route(self, turn: Turn, *, failed: str) -> None:
        turn.attempts += 1
        turn.router = int(self.rng.random() * len(self.policies))
        chosen = self.policies[turn.router].choose(turn, failed, self.now) if turn.attempts <= ATTEMPTS else None
        if chosen is None:
            turn.failed = True
            if turn.first_token_s is None:
                self._open -= 1
            return
        turn.replica, turn.rule = chosen
        replica = self.replicas[turn.replica]
        self.sent.append((self.now, turn.replica))
        zone, region = turn.place
        far_s = 0.0
        if region and region != replica.spec.region:
            far_s = self._traffic.cross_region_s
        elif zone and zone != replica.spec.zone:
            far_s = self._traffic.cross_zone_s
        turn.left_s = far_s / 2
        delay_s = self.rng.expovariate(1 / self._traffic.lease_to_arrival_s) + far_s / 2
        self.after(delay_s, lambda: replica.arrive(turn))


@dataclass(frozen=True)
class Summary:
    """How the turns of some span of time fared."""

    turns: int
    failed: int
    retried: int
    p50_ms: float
    p99_ms: float
    hit_rate: float
    """Turns with something to find in a cache that found most of it."""
    fork_hit_rate: float
    saved: float
    """Prompt tokens found in a cache, of all."""
    rules: Counter[str] = field(default_factory=Counter)


def summary(turns: Iterable[Turn], *, since: float = 0.0, until: float = float("inf")) -> Summary:
    """Of the turns that came between the two times."""
    some = [turn for turn in turns if since <= turn.at < until]
    first = [turn.first_token_s * 1000 for turn in some if turn.first_token_s is not None]
    later = [turn for turn in some if turn.shared_tokens]
    forks = [turn for turn in later if turn.forked]
    return Summary(
        turns=len(some),
        failed=sum(turn.failed for turn in some),
        retried=sum(turn.attempts > 1 for turn in some),
        p50_ms=percentile(first, 0.5),
        p99_ms=percentile(first, 0.99),
        hit_rate=_share(later, _hit),
        fork_hit_rate=_share(forks, _hit),
        saved=sum(turn.cached_tokens for turn in some) / max(1, sum(turn.prompt_tokens for turn in some)),
        rules=Counter(turn.rule for turn in some),
    )


def shares(simulation: Simulation, *, since: float, until: float, of: Callable[[Replica], str]) -> dict[str, float]:
    """What share of the attempts went to which kind of replica."""
    counted = Counter(of(simulation.replicas[number]) for at, number in simulation.sent if since <= at < until)
    return {kind: count / max(1, counted.total()) for kind, count in sorted(counted.items())}


def speeds(number: int, *, slots: int = 8, spread: Sequence[float] = (1.0, 2.0, 3.0, 4.0)) -> list[ReplicaSpec]:
    """Replicas of which equally many have each slowness."""
    return [replace(ReplicaSpec(), slowness=spread[index % len(spread)], slots=slots) for index in range(number)]


def capacity(specs: Sequence[ReplicaSpec], traffic: Traffic) -> float:
    """Generations per second that keep all slots busy, without caches."""
    return sum(
        spec.slots
        / (spec.slowness * (traffic.answer_tokens / spec.decode_per_s + traffic.prompt_tokens / spec.prefill_per_s))
        for spec in specs
    )


def _hit(turn: Turn) -> bool:
    return turn.cached_tokens * 2 > turn.shared_tokens


def _share(turns: Sequence[Turn], what: Callable[[Turn], bool]) -> float:
    return sum(map(what, turns)) / max(1, len(turns))
