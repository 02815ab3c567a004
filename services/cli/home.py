"""The folder that a mesh on one machine lives in, and the lock that says whose it is."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.errors import CliError

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKET_NAME_ROOM = 24
"""Characters to keep free behind a socket folder: `/.s.PGSQL.5432` and, while it is made, `.lock`."""

SOCKET_PATH_LIMIT = 103
"""Longest path of a Unix socket that every supported system takes (Linux 107, macOS 103)."""


class HomeBusyError(Exception):
    """Another supervisor holds this home."""


@dataclass(frozen=True, slots=True)
class Home:
    """Paths under `CHATMESH_HOME`. `root` is absolute."""

    root: Path

    @property
    def data(self) -> Path:
        """What must survive: the databases."""
        return self.root / "data"

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What is worthless once nothing runs: state, lock, rendered configuration."""
        return self.root / "run"

    @property
    def keys(self) -> Path:
        """The key that signs local tokens."""
        return self.root / "keys"

    @property
    def state_file(self) -> Path:
        """What runs now, for `status` and `down`."""
        return self.run / "state.json"

    @property
    def lock_file(self) -> Path:
        """Held by the supervisor for as long as it lives."""
        return self.run / "lock"

    @property
    def supervisor_log(self) -> Path:
        """Where a detached supervisor writes."""
        return self.logs / "supervisor.log"

    @property
    def chat_history(self) -> Path:
        """Lines typed at `chatmesh chat`."""
        return self.root / "chat_history"

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"

    def prepare(self) -> None:
        """Make the folders. Only the user of the mesh can list them.

        Raises:
            CliError: the folder cannot be made or written.
        """
        # Started by root, PostgreSQL runs as another user and must be able to pass through, though not to look.
        passable = 0o711 if os.geteuid() == 0 else 0o700
        try:
            for folder, mode in (
                (self.root, passable),
                (self.data, passable),
                (self.run, passable),
                (self.logs, 0o700),
                (self.keys, 0o700),
            ):
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(mode)
        except OSError as error:
            raise CliError(
                f"cannot use {self.root} as the home of the mesh: {error.strerror}. Set CHATMESH_HOME to a folder that "
                "you can write."
            ) from error

    def socket_dir(self, name: str) -> Path:
        """A folder for a Unix socket of at most `SOCKET_NAME_ROOM` characters; made if it is missing.

        It stands under `run`, or under the system's temporary folder where that path would be too long.
        """
        folder = self.run / name
        if len(os.fsencode(folder)) + SOCKET_NAME_ROOM <= SOCKET_PATH_LIMIT:
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        outer = self._short_dir()
        outer.mkdir(mode=0o700, exist_ok=True)
        # The temporary folder is shared: a stranger may have been here first.
        if outer.is_symlink() or outer.stat().st_uid != os.geteuid():
            raise CliError(f"{outer} belongs to another user. Set CHATMESH_HOME to a shorter path.")
        outer.chmod(0o711 if os.geteuid() == 0 else 0o700)
        folder = outer / name
        folder.mkdir(exist_ok=True)
        return folder

    def remove_short_dir(self) -> None:
        """Leave nothing in the system's temporary folder once nothing listens there."""
        outer = self._short_dir()
        if not outer.is_symlink():
            shutil.rmtree(outer, ignore_errors=True)

    def _short_dir(self) -> Path:
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:10]
        return Path(tempfile.gettempdir()) / f"chatmesh-{os.geteuid()}-{digest}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the home. The kernel lets go of it when this process ends, however it ends.

        Raises:
            HomeBusyError: another process holds it.
        """
        self.run.mkdir(parents=True, exist_ok=True)
        with self.lock_file.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise HomeBusyError from error
            yield

    def is_locked(self) -> bool:
        """Whether a supervisor lives here now."""
        if not self.lock_file.exists():
            return False
        try:
            with self.locked():
                return False
        except HomeBusyError:
            return True
