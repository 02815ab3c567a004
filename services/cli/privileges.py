"""How PostgreSQL runs when the mesh is started by root, which it refuses to be.

It runs as `nobody`: that user is there on every system, so nothing is added to this one. Where that user cannot reach
the programs or the data (a clone under root's own 0700 home, a narrow umask), the child keeps the one capability that
lets it pass; no mode of an existing folder is changed.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.cli import child
from services.cli.errors import CliError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_ACCOUNT = "nobody"
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_PROBE = '"$1" --version >/dev/null && cd "$2" && touch .probe && rm .probe'
_PROBE_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Privileges:
    """What a child runs as. `capability` is kept beside the user's own rights; None keeps none."""

    uid: int
    gid: int
    capability: int | None = None


def launcher(stop_signal: int, *, privileges: Privileges | None = None, cores: Iterable[int] = ()) -> list[str]:
    """The words to put before a command so that it ends with this process, see `child`."""
    words = [sys.executable, "-I", "-S", child.__file__, "--parent", str(os.getpid()), "--signal", str(stop_signal)]
    if privileges is not None:
        words += ["--uid", str(privileges.uid), "--gid", str(privileges.gid)]
        if privileges.capability is not None:
            words += ["--capability", str(privileges.capability)]
    for core in cores:
        words += ["--core", str(core)]
    return [*words, "--"]


def database_privileges(*, program: Path, folder: Path) -> Privileges | None:
    """What PostgreSQL is to run as; None for this very user. `folder` exists and is given to that user.

    Raises:
        CliError: this is root, and no other user can run the program on that folder.
    """
    if os.geteuid() != 0:
        return None
    uid, gid = _owner(folder)
    problem = ""
    for capability in (None, _CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        privileges = Privileges(uid=uid, gid=gid, capability=capability)
        problem = _probe(privileges, program=program, folder=folder)
        if not problem:
            return privileges
    raise CliError(_refusal(f"user {uid} cannot use {program.parent} and {folder} ({problem})"))


def _owner(folder: Path) -> tuple[int, int]:
    """The user and group that own the data. Data that an ordinary user made stay that user's."""
    status = folder.stat()
    if status.st_uid != 0:
        return status.st_uid, status.st_gid
    try:
        account = pwd.getpwnam(_ACCOUNT)
    except KeyError as error:
        raise CliError(_refusal(f"there is no user {_ACCOUNT!r} here")) from error
    os.chown(folder, account.pw_uid, account.pw_gid)
    return account.pw_uid, account.pw_gid


def _probe(privileges: Privileges, *, program: Path, folder: Path) -> str:
    """Try it. Returns what went wrong, empty when nothing did."""
    command = [*launcher(9, privileges=privileges), "/bin/sh", "-c", _PROBE, "sh", str(program), str(folder)]
    result = subprocess.run(  # noqa: S603 - our own binaries
        command, capture_output=True, text=True, cwd="/", timeout=_PROBE_TIMEOUT_S, check=False
    )
    lines = result.stderr.strip().splitlines()
    return "" if result.returncode == 0 else (lines[-1] if lines else f"exit {result.returncode}")


def _refusal(why: str) -> str:
    return (
        f"PostgreSQL does not run as root, and {why}. Start the mesh as an ordinary user, or set CHATMESH_HOME to a "
        "folder that everyone can pass through, or set CHATMESH_DATABASE_URL to a database of your own."
    )
