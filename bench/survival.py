"""How long a reader waits when something dies in the middle of an answer, and how long it takes to store a turn."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import services.conversation
from bench.figures import brief, percentile, table
from services.cli.embedded import start_postgres
from services.conversation.chat_model import FinishReason, Sampling, TokenUsage
from services.conversation.model import MessageStatus, OpenTurn, Outcome, TurnTarget
from services.conversation.store import ConversationStore
from services.conversation.turn_store import TurnStore
from services.runtime.clock import SystemClock
from services.runtime.database import Database
from services.runtime.migrations import migrate
from tests.faults.breakage import all_serve, busiest_engine, kept_down, kill, owner_of, paused, pids
from tests.faults.client import AT_ONCE, Answer, Client
from tests.faults.conftest import MODELS
from tests.mesh_process import MeshProcess, eventually, running_mesh

_READERS = 4
_SPREAD_S = 2.5
_SILENCE_S = 1.0
"""How long the client lets a stream say nothing before it asks elsewhere: the cost of a server that hangs."""
_STEADY_S = 5.0
"""Between two rounds; a process that dies soon after its start is started again more slowly."""
_SHORT = {"max_tokens": 16}
_TWO = "conversation=2,inference=2"
_ONE = "conversation=1,inference=1"
Strike = Callable[["_Scene"], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class _Scene:
    """What a fault finds."""

    mesh: MeshProcess
    pids: Mapping[str, int]
    answers: Sequence[Answer]
    """In the order in which they began; the last is the one to hit."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """`replicas` is what the mesh runs, `hit` tells an answer that the fault has reached."""

    name: str
    replicas: str
    strike: Strike
    hit: Callable[[Answer], bool]
    late: bool = False
    """Whether it comes when the first answer is about to end."""


@dataclass(slots=True)
class _Waits:
    """What became of the answers that a fault has hit."""

    waits_s: list[float]
    identical: int = 0
    answers: int = 0


def _killed(name_of: Callable[[_Scene], str]) -> Strike:
    def strike(scene: _Scene) -> AbstractContextManager[None]:
        kill(scene.pids, [name_of(scene)])
        return nullcontext()

    return strike


def _paused(name_of: Callable[[_Scene], str], notice: str) -> Strike:
    @contextmanager
    def strike(scene: _Scene) -> Iterator[None]:
        with paused(scene.pids, name_of(scene)):
            yield
            eventually(lambda: [answer.notices for answer in scene.answers], lambda them: [notice] in them)

    return strike


@contextmanager
def _owner_killed_for_good(scene: _Scene) -> Iterator[None]:
    with kept_down(scene.mesh, _owner(scene)):
        yield
        eventually(lambda: scene.answers[-1].notices, lambda notices: "owner_replaced" in notices)


def _owner(scene: _Scene) -> str:
    return owner_of(scene.mesh, scene.answers[-1].generation_id)


def _engine(scene: _Scene) -> str:
    return busiest_engine(scene.mesh) if "inference-2" in scene.pids else "inference"


def _has(notice: str) -> Callable[[Answer], bool]:
    return lambda answer: notice in answer.notices


_FAULTS = (
    _Fault("owner killed, another replica", _TWO, _killed(_owner), _has("owner_replaced")),
    _Fault("owner killed for good, another replica", _TWO, _owner_killed_for_good, _has("owner_replaced")),
    _Fault("owner hangs, another replica", _TWO, _paused(_owner, "owner_replaced"), _has("owner_replaced")),
    _Fault("engine killed, another replica", _TWO, _killed(_engine), _has("engine_replaced")),
    _Fault("engine hangs, another replica", _TWO, _paused(_engine, "engine_replaced"), _has("engine_replaced")),
    _Fault("Redis killed", _TWO, _killed(lambda _: "redis"), _has("resume_unavailable")),
    _Fault("database killed", _TWO, _killed(lambda _: "postgres"), lambda _: True, late=True),
    _Fault("owner killed, the only one", _ONE, _killed(_owner), _has("owner_replaced")),
    _Fault("engine killed, the only one", _ONE, _killed(_engine), _has("engine_replaced")),
)


def add_arguments(parser: ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--rounds", type=int, default=5, help=f"of each fault, with {_READERS} answers under way")
    parser.add_argument("--faults", default="", help="only those whose name has this in it; - for none")
    parser.add_argument("--turns", type=int, default=200, help="to store, of each kind")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: Namespace) -> int:
    """Measure and print."""
    chosen = [fault for fault in _FAULTS if arguments.faults in fault.name]
    waits: dict[str, _Waits] = {}
    storing: dict[str, list[float]] = {}
    chance = random.Random(arguments.seed)
    for replicas, faults in itertools.groupby(chosen, key=lambda fault: fault.replicas):
        with running_mesh(models=MODELS, extra={"CHATMESH_REPLICAS": replicas}) as mesh:
            for fault in faults:
                waits[fault.name] = _measure(mesh, fault, rounds=arguments.rounds, chance=chance)
                print(" | ".join(_row(fault.name, waits[fault.name])), file=sys.stderr, flush=True)
    if arguments.turns:
        with running_mesh(models=MODELS) as mesh:
            storing = _store(mesh, turns=arguments.turns)
        storing["the statement alone"] = _store_alone(turns=arguments.turns)
    if arguments.json:
        print(json.dumps({"waits": {name: vars_of(them) for name, them in waits.items()}, "storing_ms": storing}))
    else:
        print(f"Load of the machine at the end: {os.getloadavg()[0]:.1f}\n")
        print(
            table(("fault", "answers hit", "median s", "max s", "identical"), [_row(*item) for item in waits.items()])
        )
        print()
        print(table(("storing a turn", "turns", "p50 ms", "p99 ms"), [_store_row(*item) for item in storing.items()]))
    return 0 if all(them.identical == them.answers for them in waits.values()) else 1


def vars_of(waits: _Waits) -> dict[str, Any]:
    """As JSON has it."""
    return {"waits_s": waits.waits_s, "answers": waits.answers, "identical": waits.identical}


def _measure(mesh: MeshProcess, fault: _Fault, *, rounds: int, chance: random.Random) -> _Waits:
    found = _Waits([])
    with Client(mesh, silence_s=_SILENCE_S) as client, Client(mesh, model="fast") as undisturbed:
        expected = undisturbed.ask("Hello").text
        for _ in range(rounds):
            all_serve(mesh)
            time.sleep(_STEADY_S)
            processes = pids(mesh)
            begun = [client.start("Hello", delay_s=_SPREAD_S * index / _READERS) for index in range(_READERS)]
            answers = [answer for answer, _ in begun]
            answers[-1].reach(chance.randint(2, 80))
            if fault.late:
                answers[0].reach(200 + chance.randint(0, 40))
            struck_at = time.monotonic()
            open_ones = [answer for answer in answers if not answer.ended]
            with fault.strike(_Scene(mesh, processes, answers)):
                pass
            wait([end for _, end in begun])
            for answer in open_ones:
                found.answers += 1
                found.identical += answer.text == expected == answer.message["content"]
                if fault.hit(answer):
                    found.waits_s.append(_longest_wait(answer, struck_at))
    return found


def _longest_wait(answer: Answer, struck_at: float) -> float:
    """The longest time without text or end that ended after the fault; what was before it does not count."""
    times = [at for at, event in zip(answer.arrivals, answer.events, strict=True) if "notice" not in event]
    after = [at for at in times if at > struck_at]
    return max(later - earlier for earlier, later in itertools.pairwise([struck_at, *after]))


def _store(mesh: MeshProcess, *, turns: int) -> dict[str, list[float]]:
    """From the last text to the event that says that all is stored, in ms, as the client sees it."""
    with Client(mesh) as client:
        alone = [_to_the_end_ms(client.ask("Hello", sampling=_SHORT)) for _ in range(turns)]
        crowd: list[float] = []
        while len(crowd) < turns:
            ends = [client.start("Hello", sampling=_SHORT)[1] for _ in range(AT_ONCE)]
            crowd += [_to_the_end_ms(end.result()) for end in ends]
    return {"one after the other": alone, f"{AT_ONCE} side by side": crowd}


def _to_the_end_ms(answer: Answer) -> float:
    return (answer.arrivals[-1] - answer.arrivals[-2]) * 1000


def _store_alone(*, turns: int) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="cm-") as folder:
        # PostgreSQL does not run as root and must be able to pass through.
        Path(folder).chmod(0o711)
        sockets = Path(folder) / "s"
        sockets.mkdir()
        with start_postgres(Path(folder) / "data", socket_dir=sockets) as url:
            return asyncio.run(_statements_ms(url, turns=turns))


async def _statements_ms(url: str, *, turns: int) -> list[float]:
    """How long the one statement takes that ends a turn."""
    await migrate(url, schema="conversation", directory=Path(services.conversation.__path__[0]) / "migrations")
    user = str(uuid.uuid4())
    outcome = Outcome(MessageStatus.COMPLETED, FinishReason.STOP, "word " * 300, TokenUsage(20, 300, 0))
    times: list[float] = []
    async with Database(url) as database:
        clock = SystemClock()
        conversations = ConversationStore(database=database, clock=clock)
        store = TurnStore(database=database, clock=clock, owner="bench")
        for _ in range(turns):
            made = await conversations.create(user_id=user, title="", model="", system_prompt="", request_id="")
            turn = await store.begin_turn(
                user_id=user,
                tier="free",
                conversation_id=made.id,
                content="Hello",
                model="",
                request_id="",
                request_hash="",
                target=TurnTarget(),
                sampling=Sampling(),
            )
            assert isinstance(turn, OpenTurn)
            begun = time.perf_counter()
            await store.finish_turn(turn, outcome, model="synthetic", route=None, last_seq=300)
            times.append((time.perf_counter() - begun) * 1000)
    return times


def _row(name: str, waits: _Waits) -> list[str]:
    median, longest = (statistics.median(waits.waits_s), max(waits.waits_s)) if waits.waits_s else (0.0, 0.0)
    return [name, str(len(waits.waits_s)), brief(median), brief(longest), f"{waits.identical} of {waits.answers}"]


def _store_row(name: str, times_ms: Sequence[float]) -> list[str]:
    return [name, str(len(times_ms)), brief(percentile(times_ms, 0.5)), brief(percentile(times_ms, 0.99))]
