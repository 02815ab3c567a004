"""Loopback ports: finding free ones, and finding out who has one."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psutil

from services.cli.errors import CliError

if TYPE_CHECKING:
    import random

LOOPBACK = "127.0.0.1"

# Below the range that Linux and macOS draw the ports of outgoing connections from: a service that is restarted must
# find its port still free, however many connections were made in the meantime.
FIRST, LAST = 20_000, 32_000


def free_ports(count: int, *, draw: random.Random) -> list[int]:
    """As many different ports as asked for, that nothing listens on.

    Raises:
        CliError: there are not that many.
    """
    candidates = draw.sample(range(FIRST, LAST), k=LAST - FIRST)
    found: list[int] = []
    with ExitStack() as held:
        for port in candidates:
            if len(found) == count:
                return found
            listener = held.enter_context(socket.socket())
            try:
                listener.bind((LOOPBACK, port))
            except OSError:
                continue
            found.append(port)
    raise CliError(f"no {count} free ports between {FIRST} and {LAST} on {LOOPBACK}")


def is_taken(port: int) -> bool:
    """Whether something listens on this loopback port.

    Raises:
        PermissionError: this user may not listen on it.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except PermissionError:
            raise
        except OSError:
            return True
    return False


def owner(port: int) -> str:
    """The process that listens on a port, such as ` by nginx (pid 7)`; empty when the system does not say."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr[1] == port
            if listens and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""


def require_free(port: int) -> None:
    """Check the port of the edge before anything is started.

    Raises:
        CliError: it is taken, or is no port that this user may listen on.
    """
    try:
        if not is_taken(port):
            return
    except PermissionError as error:
        raise CliError(f"port {port} is reserved for root. Set CHATMESH_PORT to one above 1023.") from error
    raise CliError(f"port {port} is taken{owner(port)}. Stop that, or set CHATMESH_PORT to a free port.")
