"""PostgreSQL and CockroachDB through psycopg: a pool, and transactions that are retried whole.

The SQL is the same for both. Under CockroachDB's SERIALIZABLE a transaction may be refused with 40001 at any point and
must be run again from its beginning, so work is given as a function and not as an open transaction.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, LiteralString, Self, TypeVar
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from services.runtime.errors import DomainError, Reason

_log = logging.getLogger(__name__)

Row = tuple[Any, ...]
Connection = AsyncConnection[Row]
T = TypeVar("T")

MAX_ATTEMPTS = 10
# A server that vanished from the network is noticed in seconds; TCP alone would wait for many minutes.
_NETWORK = {
    "connect_timeout": 3,
    "tcp_user_timeout": 5_000,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 2,
}
IDLE_S = 0.5
"""A connection that was not used for so long is asked whether it lives before it is used."""
CHECK_TIMEOUT_S = 3.0
"""How long a connection may take to say that it lives."""
STATEMENT_TIMEOUT_S = 15.0
"""How long one statement may take. A database that hangs keeps its connections, and would be waited for without end."""
RUN_TIMEOUT_S = 60.0
"""How long a transaction of several statements may take."""
RETRYABLE = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)

_PROGRAM_LIMITS = "54"
"""Class of the codes of what is too large or too complex for the database; psycopg counts them as operational."""


class _StaleConnectionError(Exception):
    """A pooled connection is dead, and nothing was asked of it yet."""


class Database:
    """A pool of connections. Use as an async context manager."""

    def __init__(self, url: str, *, min_size: int = 1, max_size: int = 8, timeout_s: float = 2.0) -> None:
        self._timeout_s = timeout_s
        self._seen_alive: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()
        self._failed_at = 0.0
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            min_size=min_size,
            max_size=max_size,
            timeout=timeout_s,
            max_lifetime=1800,
            open=False,
            kwargs={"autocommit": True, **_NETWORK},
        )

    async def __aenter__(self) -> Self:
        # Not waited for: a service starts without its database, and says NOT_SERVING until it is there.
        await self._pool.open(wait=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pool.close()

    async def statement(
        self,
        query: LiteralString,
        parameters: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = STATEMENT_TIMEOUT_S,
    ) -> list[Row]:
        """Run one statement as a transaction of its own, in one round trip, and return its rows.

        Raises:
            DomainError: DEPENDENCY_UNAVAILABLE when the database does not answer in time. The statement may have been
                done all the same.
        """

        async def work(connection: Connection) -> list[Row]:
            cursor = await connection.execute(query, parameters)
            return await cursor.fetchall() if cursor.description else []

        return await self._retry(work, transaction=False, timeout_s=timeout_s)

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, timeout_s: float = RUN_TIMEOUT_S) -> T:
        """Run `work` in one transaction, again from the start when the database asks for that.

        `work` may run several times and must change nothing but the database. When the connection dies it is not run
        again, for it may have committed.

        Raises:
            DomainError: DEPENDENCY_UNAVAILABLE when the database does not answer, or not all of it in time.
        """
        return await self._retry(work, transaction=True, timeout_s=timeout_s)

    async def _retry(self, work: Callable[[Connection], Awaitable[T]], *, transaction: bool, timeout_s: float) -> T:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                async with self._pool.connection(timeout=self._timeout_s) as connection:
                    await self._require_alive(connection)
                    with _cut_after(connection, timeout_s):
                        if not transaction:
                            return await work(connection)
                        async with connection.transaction():
                            return await work(connection)
            except RETRYABLE as error:
                if attempt == MAX_ATTEMPTS:
                    raise _unavailable() from error
                await asyncio.sleep(0.005 * 2**attempt * (0.5 + random.random()))
            except _StaleConnectionError:
                # The others are likely dead as well; psycopg's own check would wait a second before each, and for ever
                # where the server hangs.
                await self._pool.drain()
            except psycopg.errors.ReadOnlySqlTransaction as error:
                # Another server leads now. New connections find it, these never would.
                await self._pool.drain()
                _log.warning("database is read-only")
                raise _unavailable() from error
            except psycopg.OperationalError as error:
                if (error.sqlstate or "").startswith(_PROGRAM_LIMITS):
                    # It is there, and says that what it was asked is too large; it will say so again.
                    raise
                self._failed_at = time.monotonic()
                _log.warning("database is not available", extra={"error": type(error).__name__})
                raise _unavailable() from error
        raise _unavailable()

    async def _require_alive(self, connection: Connection) -> None:
        """Ask a connection that was idle, or in the pool when another failed: its server may have been restarted.

        A busy connection is not asked, so that a statement stays one round trip.
        """
        now = time.monotonic()
        seen = self._seen_alive.get(connection, 0.0)
        if seen <= self._failed_at or now - seen > IDLE_S:
            try:
                with _cut_after(connection, CHECK_TIMEOUT_S):
                    await AsyncConnectionPool.check_connection(connection)
            except psycopg.OperationalError as error:
                raise _StaleConnectionError from error
        self._seen_alive[connection] = now

    async def check(self) -> None:
        """Ask whether the database answers; raises when it does not."""
        async with self._pool.connection(timeout=1.0) as connection:
            with _cut_after(connection, CHECK_TIMEOUT_S):
                await connection.execute("SELECT 1")


@contextmanager
def _cut_after(connection: Connection, timeout_s: float) -> Iterator[None]:
    """Cut a connection that is still in use after a time: to psycopg and to its pool it is a lost one.

    A cancellation would not do, for psycopg then asks the server to cancel as well, and waits long for one that hangs.
    """
    timer = asyncio.get_running_loop().call_later(timeout_s, _cut, connection)
    try:
        yield
    finally:
        timer.cancel()


def _cut(connection: Connection) -> None:
    # Its descriptor stays open, for psycopg watches it.
    with suppress(OSError, psycopg.OperationalError), socket.socket(fileno=os.dup(connection.fileno())) as channel:
        channel.shutdown(socket.SHUT_RDWR)


def _unavailable() -> DomainError:
    return DomainError(
        Reason.DEPENDENCY_UNAVAILABLE,
        "The database is not available; try again shortly.",
        metadata={"service": "database"},
    )
