"""`chatmesh up --detach`: the same supervisor in the background; returns when it is ready, or has failed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from services.cli.process import rotate_log
from services.cli.up import already_running

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from services.cli.home import Home

_POLL_S = 0.1
_LOG_LIMIT_BYTES = 1024 * 1024


def up_detached(home: Home, *, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> int:
    """Start `chatmesh up <arguments>` in a session of its own, show what it prints until it is ready.

    Raises:
        CliError: a mesh runs in this home already.
    """
    home.prepare()
    if home.is_locked():
        raise already_running(home)
    rotate_log(home.supervisor_log, limit_bytes=_LOG_LIMIT_BYTES)
    read_fd, write_fd = os.pipe()
    descriptor = os.open(home.supervisor_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "ab") as log:
        start = os.fstat(log.fileno()).st_size
        supervisor = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-m", "services.cli", "up", "--no-token", "--ready-fd", str(write_fd), *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=(write_fd,),
            env=dict(environment), cwd=folder,
        )  # fmt: skip
    os.close(write_fd)
    with home.supervisor_log.open("rb") as shown:
        shown.seek(start)
        try:
            while not select.select([read_fd], [], [], _POLL_S)[0]:
                _copy(shown.read())
            is_ready = os.read(read_fd, 1) == b"1"
        except KeyboardInterrupt:
            supervisor.send_signal(signal.SIGTERM)
            is_ready = False
        finally:
            os.close(read_fd)
        exit_code = 0 if is_ready else supervisor.wait() or 1
        _copy(shown.read())
    return exit_code


def _copy(text: bytes) -> None:
    if text:
        sys.stdout.write(text.decode(errors="replace"))
        sys.stdout.flush()
