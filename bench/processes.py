"""What the processes of a mesh use: CPU time and memory, by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from tests.mesh_process import MeshProcess

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SUPERVISOR = "supervisor"


class MeshProcesses:
    """The processes of one mesh, each with what it has started (PostgreSQL has a process per connection)."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._roots = roots

    @classmethod
    def of(cls, mesh: MeshProcess) -> MeshProcesses:
        """Ask the mesh for its processes."""
        named: dict[str, int] = {name: process["pid"] for name, process in mesh.status().items()}
        supervisor = psutil.Process(next(iter(named.values()))).ppid()
        return cls({**named, _SUPERVISOR: supervisor})

    def cpu_s(self) -> dict[str, float]:
        """User and system time since the start, in seconds, by name; of processes that have ended, too."""
        return {name: sum(map(_cpu_s, self._tree(name))) for name in self._roots}

    def memory_kb(self) -> dict[str, int]:
        """Memory by name, each shared page counted in equal parts for those that share it."""
        return {name: sum(map(_memory_kb, self._tree(name))) for name in self._roots}

    def _tree(self, name: str) -> list[int]:
        root = self._roots[name]
        if name == _SUPERVISOR:
            # Its children are the other names.
            return [root]
        return [root, *(child.pid for child in psutil.Process(root).children(recursive=True))]


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds by process between two readings."""

    by_process: Mapping[str, float]

    @classmethod
    def between(cls, before: Mapping[str, float], after: Mapping[str, float]) -> Spent:
        """The difference of two readings of `cpu_s`."""
        return cls({name: after[name] - before[name] for name in after})

    @property
    def total(self) -> float:
        """Of all processes."""
        return sum(self.by_process.values())


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    # utime, stime, and those of the children that have ended.
    return sum(map(int, fields[11:15])) / _TICKS_PER_S


def _memory_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
