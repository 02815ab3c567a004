"""What the fault tests do to processes, and how they find the one that matters."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import psycopg
from redis import Redis

from tests.mesh_process import MeshProcess, eventually

CONVERSATION = ("conversation", "conversation-2")
INFERENCE = ("inference", "inference-2")
_RUNNING = re.compile(r"^chatmesh_inference_running\{.*\} ([0-9.]+)$", re.MULTILINE)


def pids(mesh: MeshProcess) -> Mapping[str, int]:
    """Of every process. Asked for before a fault, so that the fault comes at the moment that was chosen."""
    return {name: process["pid"] for name, process in mesh.status().items()}


def kill(pids: Mapping[str, int], names: Iterable[str]) -> None:
    """Kill processes without warning, as one."""
    for name in names:
        os.kill(pids[name], signal.SIGKILL)


def pause(pids: Mapping[str, int], name: str) -> None:
    """Let a process be there and do nothing."""
    os.kill(pids[name], signal.SIGSTOP)


def resume(pids: Mapping[str, int], name: str) -> None:
    """Let a paused process go on."""
    os.kill(pids[name], signal.SIGCONT)


@contextmanager
def paused(pids: Mapping[str, int], name: str) -> Iterator[None]:
    """A process that does nothing."""
    pause(pids, name)
    try:
        yield
    finally:
        resume(pids, name)


@contextmanager
def kept_down(mesh: MeshProcess, name: str) -> Iterator[None]:
    """A process that was killed, and whose successor does nothing before the end."""
    killed = pid_of(mesh, name)
    os.kill(killed, signal.SIGKILL)
    successor = 0
    # As soon as it is there: it must not serve even once.
    while not successor or successor == killed:
        time.sleep(0.002)
        successor = pid_of(mesh, name)
    os.kill(successor, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(successor, signal.SIGCONT)


def pid_of(mesh: MeshProcess, name: str) -> int:
    """Of one process as the mesh itself has noted it, which takes no time; 0 while it is not there."""
    state = json.loads((mesh.home / "run" / "state.json").read_text())
    records = {record["name"]: record for record in state["processes"]}
    process = records[name]["process"]
    return int(process["pid"]) if process else 0


def database_url(mesh: MeshProcess) -> str:
    """Of the mesh's own PostgreSQL."""
    return f"postgresql://postgres@/chatmesh?host={mesh.home}/run/postgres"


def owner_of(mesh: MeshProcess, generation_id: str) -> str:
    """The process that runs a generation."""
    with psycopg.connect(database_url(mesh)) as connection:
        row = connection.execute(
            "SELECT s.name FROM conversation.generations g JOIN conversation.servers s ON s.owner = g.owner"
            " WHERE g.id = %s",
            [generation_id],
        ).fetchone()
    assert row is not None, f"{generation_id} has no owner that lives"
    return process_of(row[0])


def busiest_engine(mesh: MeshProcess) -> str:
    """The process that generates most answers now."""
    running = {name: sum(map(float, _RUNNING.findall(mesh.metrics(name)))) for name in INFERENCE}
    busiest = max(INFERENCE, key=lambda name: running[name])
    assert running[busiest], running
    return busiest


def process_of(replica: str) -> str:
    """The process that goes by a replica's name; what follows it tells meshes apart."""
    return replica.rpartition("-")[0]


def empty_redis(mesh: MeshProcess) -> None:
    """Let Redis forget all logs."""
    with Redis(unix_socket_path=str(next((mesh.home / "run").glob("redis/*.sock")))) as client:
        client.flushall()


def all_serve(mesh: MeshProcess) -> None:
    """Wait until every process is there again."""
    eventually(
        lambda: {process["health"] for process in mesh.status().values()}, lambda healths: healths == {"SERVING"}
    )
