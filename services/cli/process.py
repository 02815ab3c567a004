"""What a process of the mesh is: how to start it, how to ask it, when to stop it, how long to wait before a restart."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.cli.privileges import Privileges
    from services.cli.state import Kind

LOG_LIMIT_BYTES = 8 * 1024 * 1024
LOG_BACKUPS = 2


class StopOrder(IntEnum):
    """Who is stopped first. Those of one step are stopped together, and the next step waits for them."""

    FRONT = 0
    EDGE = 1
    BACK = 2
    STORE = 3


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process.

    `address` is where peers find it and `target` where its health is asked for (see `probes`). It is started when all
    of `after` serve. `cores` are those that it may use, all when empty. `slow_step` is shown to people when the start
    takes long, such as a model that is being loaded.
    """

    name: str
    kind: Kind
    command: tuple[str, ...]
    address: str
    target: str
    log: Path
    stop_order: StopOrder
    metrics_address: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    folder: Path = Path("/")
    stop_signal: signal.Signals = signal.SIGTERM
    hurry_signal: signal.Signals = signal.SIGKILL
    stop_timeout_s: float = 15.0
    privileges: Privileges | None = None
    cores: tuple[int, ...] = ()
    slow_step: str = ""


class Backoff:
    """How long to wait before the next restart, seconds: doubles from 0.2 to 10.

    It starts anew when the process had been healthy for `steady_s`, so that one that serves for a moment and dies
    again does not spin.
    """

    def __init__(self, *, first_s: float = 0.2, longest_s: float = 10.0, steady_s: float = 10.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._steady_s = steady_s
        self._next_s = first_s

    def next_delay_s(self, *, healthy_for_s: float) -> float:
        """The wait after an exit of a process that had served for so long."""
        if healthy_for_s >= self._steady_s:
            self._next_s = self._first_s
        delay_s = self._next_s
        self._next_s = min(self._next_s * 2, self._longest_s)
        return delay_s


def describe_exit(code: int) -> str:
    """How a process ended: `exit 1`, or the signal that ended it, such as `SIGKILL`."""
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def rotate_log(log: Path, *, limit_bytes: int = LOG_LIMIT_BYTES, backups: int = LOG_BACKUPS) -> None:
    """Keep a log bounded. It is copied and cut, not renamed: the process that writes it holds it open (to append)."""
    try:
        if log.stat().st_size <= limit_bytes:
            return
    except FileNotFoundError:
        return
    for number in range(backups, 1, -1):
        older = log.with_name(f"{log.name}.{number - 1}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number}"))
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    log.with_name(f"{log.name}.1").chmod(0o600)
    with log.open("r+b") as file:
        file.truncate(0)


def last_lines(log: Path, *, since: int = 0, count: int = 5, width: int = 400) -> list[str]:
    """The end of a log: at most `count` lines that were written after byte `since`."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(since if since <= size else 0, size - count * width * 4))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    lines = [line.rstrip()[:width] for line in text.splitlines() if line.strip()]
    return lines[-count:]
