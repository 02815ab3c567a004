"""`chatmesh down`: stops the mesh of this home, whichever shell started it."""

from __future__ import annotations

import os
import signal
import time

from services.cli.errors import CliError
from services.cli.home import Home, HomeBusyError
from services.cli.leftovers import end_leftovers
from services.cli.state import read_state

_PATIENCE_S = 60.0
_POLL_S = 0.05


def down(home: Home) -> int:
    """Stop the supervisor, or what a killed one left behind. Nothing to stop is fine.

    Raises:
        CliError: the supervisor did not stop.
    """
    if not home.run.exists():
        print("chatmesh is not running")
        return 0
    record = read_state(home.state_file)
    if home.is_locked():
        if record is None or not record.supervisor.is_alive():
            raise CliError(f"a mesh in {home.root} is just starting; try again in a moment")
        print(f"stopping chatmesh (pid {record.supervisor.pid}) ...", flush=True)
        os.kill(record.supervisor.pid, signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE_S
        while home.is_locked():
            if time.monotonic() > deadline:
                raise CliError(
                    f"the supervisor (pid {record.supervisor.pid}) has not stopped within {_PATIENCE_S:.0f} s; "
                    f"see {home.logs}"
                )
            time.sleep(_POLL_S)
        print("chatmesh is stopped")
        return 0
    try:
        with home.locked():
            left = end_leftovers(home)
    except HomeBusyError as error:
        raise CliError("another chatmesh has just been started here; try again") from error
    print(f"chatmesh is stopped (left over: {', '.join(left)})" if left else "chatmesh is not running")
    return 0
