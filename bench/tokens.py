"""What a token and a turn cost: CPU of all processes of a mesh, delays and memory, at several loads."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

from bench.figures import brief, percentile, table
from bench.load import Load, Measured
from bench.processes import MeshProcesses, Spent
from bench.workloads import MODELS, TIERS, WORKLOADS, Surface, Workload
from services.cli.home import Home
from services.cli.keys import SigningKey
from tests.mesh_process import MeshProcess, running_mesh

_USERS = 64
_TOKEN_TTL_S = 4 * 3600.0
_IDLE_S = 5.0
_STREAMS_THAT_SHOW_MEMORY = 256
_NOTHING = "-"

_Key = tuple[str, Surface]


@dataclass(frozen=True, slots=True)
class Idle:
    """The mesh with nobody there."""

    cpu_ms_per_s: dict[str, float]
    memory_kb: dict[str, int]


def add_arguments(parser: ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--workloads", default="W1,W2,W3,W4", help=f"of {','.join(WORKLOADS)}, with commas")
    parser.add_argument("--surfaces", default="openai,native", help="of openai,native, with commas")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all of them; figures are medians")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")


def run(arguments: Namespace) -> int:
    """Measure and print. Returns 1 when an answer was wrong."""
    workloads = [WORKLOADS[name] for name in arguments.workloads.split(",")]
    surfaces = [Surface(name) for name in arguments.surfaces.split(",")]
    with running_mesh(models=MODELS, extra={"CHATMESH_TIERS_FILE": str(TIERS)}) as mesh:
        idle, rounds = uvloop.run(_measure(mesh, workloads, surfaces, rounds=arguments.rounds))
    figures = {key: _figures(WORKLOADS[key[0]], key[1], measured, idle) for key, measured in rounds.items()}
    print(json.dumps(_as_json(idle, figures), indent=2) if arguments.json else _as_tables(idle, figures))
    return 1 if any(figure["errors"] for figure in figures.values()) else 0


async def _measure(
    mesh: MeshProcess, workloads: Sequence[Workload], surfaces: Sequence[Surface], *, rounds: int
) -> tuple[Idle, dict[_Key, list[Measured]]]:
    processes = MeshProcesses.of(mesh)
    key = SigningKey(Home(mesh.home).keys)
    tokens = [key.sign(user=f"bench-{index}", tier="", ttl_s=_TOKEN_TTL_S) for index in range(_USERS)]
    loads = {
        surface: Load(
            port=mesh.port, surface=surface, token_of=lambda index: tokens[index % _USERS], processes=processes
        )
        for surface in surfaces
    }
    # What is done for the first time belongs to no round.
    for load in loads.values():
        await load.measure(WORKLOADS["W3"])
    before, at = processes.cpu_s(), time.perf_counter()
    await asyncio.sleep(_IDLE_S)
    spent, took_s = Spent.between(before, processes.cpu_s()), time.perf_counter() - at
    idle = Idle({name: seconds * 1000 / took_s for name, seconds in spent.by_process.items()}, processes.memory_kb())
    measured: dict[_Key, list[Measured]] = {
        (workload.name, surface): [] for workload in workloads for surface in surfaces
    }
    for number in range(1, rounds + 1):
        for workload in workloads:
            for surface in surfaces:
                print(f"round {number}: {workload.name} {surface}", file=sys.stderr, flush=True)
                measured[workload.name, surface].append(await loads[surface].measure(workload))
    return idle, measured


def _figures(workload: Workload, surface: Surface, rounds: Sequence[Measured], idle: Idle) -> dict[str, Any]:
    """Medians of the rounds; times in milliseconds, CPU in microseconds per token and milliseconds per answer."""

    def median(values: Sequence[float]) -> float:
        return round(statistics.median(values), 3)

    names = list(rounds[0].spent.by_process)
    idle_us_per_s = sum(idle.cpu_ms_per_s.values()) * 1000
    return {
        "workload": workload.name,
        "surface": surface.value,
        "streams": workload.streams,
        "rounds": len(rounds),
        "cpu_us_per_token": median([m.spent.total * 1e6 / m.tokens for m in rounds]),
        "cpu_us_per_token_above_idle": median(
            [(m.spent.total * 1e6 - idle_us_per_s * m.window_s) / m.tokens for m in rounds]
        ),
        "cpu_us_per_token_of": {
            name: median([m.spent.by_process[name] * 1e6 / m.tokens for m in rounds]) for name in names
        },
        "cpu_ms_per_answer": median([m.spent.total * 1e3 / max(m.answers, 1) for m in rounds]),
        "cpu_ms_per_answer_of": {
            name: median([m.spent.by_process[name] * 1e3 / max(m.answers, 1) for m in rounds]) for name in names
        },
        "time_to_first_token_ms": {
            name: median([percentile(m.to_first_token, share) * 1e3 for m in rounds])
            for name, share in (("p50", 0.5), ("p99", 0.99))
        },
        "lag_ms": {
            name: median([percentile(m.lags, share) * 1e3 for m in rounds])
            for name, share in (("p50", 0.5), ("p99", 0.99))
        },
        "tokens_per_s": median([m.tokens / m.window_s for m in rounds]),
        "tokens_per_s_offered": workload.offered_per_s,
        "memory_kb_of": {name: int(median([m.memory_kb[name] for m in rounds])) for name in names},
        # The most of all rounds: later ones find memory that an earlier one has left.
        "memory_kb_per_stream": max(
            round((sum(m.memory_kb.values()) - sum(m.memory_before_kb.values())) / workload.streams, 1) for m in rounds
        )
        if workload.interval_s
        else 0.0,
        "errors": dict(sum((Counter(m.errors) for m in rounds), Counter())),
    }


def _as_json(idle: Idle, figures: dict[_Key, dict[str, Any]]) -> dict[str, Any]:
    return {
        "idle": {"cpu_ms_per_s_of": idle.cpu_ms_per_s, "memory_kb_of": idle.memory_kb},
        "workloads": list(figures.values()),
    }


def _as_tables(idle: Idle, figures: dict[_Key, dict[str, Any]]) -> str:
    names = list(idle.cpu_ms_per_s)
    head = (
        *("workload", "CPU us/token", "above idle", "CPU ms/answer", "TTFT p50/p99 ms", "lag p50/p99 ms"),
        *("tokens/s", "offered", "memory kB/stream", "errors"),
    )
    rows = [
        [
            f"{figure['workload']} {figure['surface']}",
            brief(figure["cpu_us_per_token"]),
            brief(figure["cpu_us_per_token_above_idle"]),
            brief(figure["cpu_ms_per_answer"]) if not figure["tokens_per_s_offered"] else _NOTHING,
            _pair(figure["time_to_first_token_ms"]),
            _pair(figure["lag_ms"]) if figure["tokens_per_s_offered"] else _NOTHING,
            brief(figure["tokens_per_s"]),
            brief(figure["tokens_per_s_offered"]) if figure["tokens_per_s_offered"] else _NOTHING,
            brief(figure["memory_kb_per_stream"]) if _shows_memory(figure) else _NOTHING,
            str(sum(figure["errors"].values())),
        ]
        for figure in figures.values()
    ]
    by_process = [
        [f"{f['workload']} {f['surface']}, us/token", *(brief(f["cpu_us_per_token_of"][name]) for name in names)]
        for f in figures.values()
    ]
    by_process.append(["idle, ms/s", *(brief(idle.cpu_ms_per_s[name]) for name in names)])
    by_process.append(["memory idle, MB", *(brief(idle.memory_kb[name] / 1024) for name in names)])
    by_process += [
        [f"memory {f['workload']} {f['surface']}, MB", *(brief(f["memory_kb_of"][name] / 1024) for name in names)]
        for f in figures.values()
    ]
    problems = [
        f"{figure['workload']} {figure['surface']}: {count} x {text}"
        for figure in figures.values()
        for text, count in figure["errors"].items()
    ]
    return "\n\n".join([table(head, rows), table(["by process", *names], by_process), *problems])


def _shows_memory(figure: dict[str, Any]) -> bool:
    # With fewer streams the difference is that of the allocators' moods.
    return bool(figure["tokens_per_s_offered"]) and figure["streams"] >= _STREAMS_THAT_SHOW_MEMORY


def _pair(values: dict[str, float]) -> str:
    return f"{brief(values['p50'])}/{brief(values['p99'])}"
