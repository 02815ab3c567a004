"""`chatmesh status`: every process of the mesh of this home, asked just now."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from services.cli.probes import Health, probe
from services.cli.state import Condition, Kind, MeshRecord, Phase, ProcessRecord, read_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.cli.home import Home

_METRICS_TIMEOUT_S = 1.0
_DEPENDENCY_DOWN = re.compile(r'^chatmesh_dependency_up\{[^}]*dependency="([^"]+)"[^}]*\} 0(?:\.0)?$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One line of the answer. `health` is SERVING, NOT_SERVING, starting, restarting or down."""

    name: str
    pid: int | None
    health: str
    reason: str
    address: str
    restarts: int
    last_exit: str
    uptime_s: float | None


@dataclass(frozen=True, slots=True)
class MeshStatus:
    """The whole answer. `phase` is starting, ready, stopping or down."""

    phase: str
    healthy: bool
    address: str
    home: str
    supervisor_pid: int | None
    uptime_s: float | None
    processes: tuple[ProcessStatus, ...]


async def mesh_status(home: Home) -> MeshStatus:
    """Read what the supervisor wrote, and ask each process."""
    record = read_state(home.state_file)
    if record is None:
        return MeshStatus("down", False, "", str(home.root), None, None, ())
    supervised = record.supervisor.is_alive()
    processes = await asyncio.gather(*(_process_status(entry, supervised=supervised) for entry in record.processes))
    ready = supervised and record.phase is Phase.READY
    return MeshStatus(
        phase=record.phase.value if supervised else "down",
        healthy=ready and all(process.health == "SERVING" for process in processes),
        address=record.address,
        home=str(home.root),
        supervisor_pid=record.supervisor.pid if supervised else None,
        uptime_s=_since(record) if supervised else None,
        processes=tuple(processes),
    )


def _since(record: MeshRecord) -> float:
    return round(time.time() - record.started_at, 1)


async def _process_status(entry: ProcessRecord, *, supervised: bool) -> ProcessStatus:
    alive = entry.process is not None and entry.process.is_alive()
    if alive:
        answer = await probe(entry.kind, entry.target)
        if not answer.serving and entry.condition is Condition.STARTING:
            health, reason = "starting", answer.reason
        elif not answer.serving:
            health, reason = "NOT_SERVING", await _explain(entry, answer)
        else:
            health, reason = "SERVING", ""
    elif supervised and entry.condition in (Condition.WAITING, Condition.STARTING):
        health, reason = "starting", ""
    elif supervised and entry.condition is not Condition.STOPPED:
        health, reason = "restarting", f"ended by {entry.last_exit}" if entry.last_exit else ""
    else:
        health, reason = "down", ""
    return ProcessStatus(
        name=entry.name,
        pid=entry.process.pid if alive and entry.process is not None else None,
        health=health,
        reason=reason,
        address=entry.address,
        restarts=entry.restarts,
        last_exit=entry.last_exit,
        uptime_s=round(time.time() - entry.started_at, 1) if alive else None,
    )


async def _explain(entry: ProcessRecord, answer: Health) -> str:
    """A service says only that it does not serve; its metrics say which dependency is down."""
    if entry.kind is not Kind.SERVICE or not entry.metrics_address:
        return answer.reason
    host, _, port = entry.metrics_address.rpartition(":")
    try:
        async with asyncio.timeout(_METRICS_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
            text = (await reader.read()).decode(errors="replace").replace("\r\n", "\n")
            writer.close()
    except (OSError, TimeoutError):
        return answer.reason
    down = sorted(set(_DEPENDENCY_DOWN.findall(text)))
    return f"waits for {', '.join(down)}" if down else answer.reason


def render_status(status: MeshStatus) -> str:
    """The answer for people."""
    if not status.processes:
        return f"chatmesh is not running in {status.home}; start it with `chatmesh up`"
    head = f"chatmesh is {status.phase} at {status.address}" if status.phase != "down" else "chatmesh is down"
    if status.supervisor_pid is not None:
        head += f" (pid {status.supervisor_pid}, up {_duration(status.uptime_s)})"
    rows = [("NAME", "PID", "HEALTH", "ADDRESS", "RESTARTS", "UPTIME", "")]
    for process in status.processes:
        notes = process.reason
        if process.restarts and process.last_exit and process.last_exit not in notes:
            notes = f"{notes + '; ' if notes else ''}last ended by {process.last_exit}"
        rows.append(
            (
                process.name,
                str(process.pid or "-"),
                process.health,
                process.address,
                str(process.restarts),
                _duration(process.uptime_s),
                notes,
            )
        )
    return f"{head}\n{table(rows)}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def render_json(status: MeshStatus) -> str:
    """The answer for programs."""
    return json.dumps(asdict(status), indent=2)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.0f}s"
    if seconds < 3600:
        return f"{seconds // 60:.0f}m{seconds % 60:02.0f}s"
    return f"{seconds // 3600:.0f}h{seconds % 3600 // 60:02.0f}m"
