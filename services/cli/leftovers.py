"""Ends what an earlier supervisor left running when it was killed."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from services.cli.state import MeshRecord, ProcessId, ProcessRecord, read_state

if TYPE_CHECKING:
    from services.cli.home import Home

_POLL_S = 0.05


def alive(record: MeshRecord) -> list[ProcessRecord]:
    """The processes of a mesh that still run."""
    return [entry for entry in record.processes if entry.process is not None and entry.process.is_alive()]


def end_leftovers(home: Home, *, patience_s: float = 15.0) -> list[str]:
    """Stop what still runs though its supervisor is gone, and forget the state. Returns their names.

    Call it with the home locked: then no supervisor lives, and what its state names is nobody's.
    """
    record = read_state(home.state_file)
    left = alive(record) if record is not None else []
    for entry in left:
        _signal(entry.process, entry.stop_signal)
    deadline = time.monotonic() + patience_s
    while any(entry.process is not None and entry.process.is_alive() for entry in left):
        if time.monotonic() > deadline:
            for entry in left:
                _signal(entry.process, signal.SIGKILL)
        time.sleep(_POLL_S)
    home.state_file.unlink(missing_ok=True)
    return [entry.name for entry in left]


def _signal(process: ProcessId | None, number: int) -> None:
    if process is None or not process.is_alive():
        return
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return
