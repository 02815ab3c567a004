"""How long `chatmesh up` takes until a chat would succeed, on a home that has been used before."""

from __future__ import annotations

import json
import statistics
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from services.cli.mesh import DEFAULT_MODELS_FILE
from tests.mesh_process import MeshProcess, running_mesh


def add_arguments(parser: ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", type=Path, default=DEFAULT_MODELS_FILE, help="models file; the mesh's own if none")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: Namespace) -> int:
    """Measure and print."""
    begun = time.perf_counter()
    with running_mesh(models=arguments.models) as mesh:
        first_s = time.perf_counter() - begun
        times_s = [_restart(mesh) for _ in range(arguments.rounds)]
    figures = {
        "first_s": round(first_s, 2),
        "warm_s": [round(value, 2) for value in times_s],
        "warm_median_s": round(statistics.median(times_s), 2),
    }
    if arguments.json:
        print(json.dumps(figures))
    else:
        print(f"new home {figures['first_s']} s; warm {figures['warm_median_s']} s (median of {figures['warm_s']})")
    return 0


def _restart(mesh: MeshProcess) -> float:
    """Stop it and start it again. Returns seconds from the command to ready."""
    mesh.chatmesh("down")
    begun = time.perf_counter()
    mesh.chatmesh("up", "--detach")
    return time.perf_counter() - begun
