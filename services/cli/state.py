"""What runs, as a file: written by the supervisor, read by `status` and `down` in other shells."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from pathlib import Path

CLOCK_SLACK_S = 2.0
"""How far two readings of a process's start may lie apart, as the clock may have been set in between."""


class Kind(StrEnum):
    """What a process is, which says how to ask it for its health."""

    POSTGRES = "postgres"
    REDIS = "redis"
    SERVICE = "service"
    EDGE = "edge"


class Phase(StrEnum):
    """How far the mesh is."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class Condition(StrEnum):
    """How the supervisor sees one process."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same number: `created` is its start, Unix seconds."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process with this number now, or None when there is none."""
        try:
            return cls(pid=pid, created=psutil.Process(pid).create_time())
        except psutil.Error:
            return None

    def is_alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) <= CLOCK_SLACK_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process of the mesh.

    `target` is where its health is asked for. Times are Unix seconds. `last_exit` says how it last ended, empty if it
    never did.
    """

    name: str
    kind: Kind
    address: str
    target: str
    stop_signal: int
    metrics_address: str = ""
    condition: Condition = Condition.WAITING
    process: ProcessId | None = None
    started_at: float = 0.0
    restarts: int = 0
    last_exit: str = ""


@dataclass(frozen=True, slots=True)
class MeshRecord:
    """The mesh of one home. `address` is the edge's URL."""

    supervisor: ProcessId
    phase: Phase
    address: str
    started_at: float
    processes: tuple[ProcessRecord, ...] = ()

    def with_processes(self, processes: tuple[ProcessRecord, ...]) -> MeshRecord:
        """The same mesh with other processes."""
        return replace(self, processes=processes)


def write_state(path: Path, record: MeshRecord) -> None:
    """Replace the file as a whole, so that no reader ever sees half of it."""
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(asdict(record), indent=1) + "\n")
    scratch.replace(path)


def read_state(path: Path) -> MeshRecord | None:
    """The last written state, or None when there is none that this version can read."""
    try:
        return _mesh(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mesh(data: dict[str, Any]) -> MeshRecord:
    return MeshRecord(
        supervisor=ProcessId(**data["supervisor"]),
        phase=Phase(data["phase"]),
        address=str(data["address"]),
        started_at=float(data["started_at"]),
        processes=tuple(_process(entry) for entry in data["processes"]),
    )


def _process(data: dict[str, Any]) -> ProcessRecord:
    process = data["process"]
    return ProcessRecord(
        name=str(data["name"]),
        kind=Kind(data["kind"]),
        address=str(data["address"]),
        target=str(data["target"]),
        stop_signal=int(data["stop_signal"]),
        metrics_address=str(data["metrics_address"]),
        condition=Condition(data["condition"]),
        process=ProcessId(**process) if process else None,
        started_at=float(data["started_at"]),
        restarts=int(data["restarts"]),
        last_exit=str(data["last_exit"]),
    )
