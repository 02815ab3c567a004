"""PostgreSQL and CockroachDB through psycopg: a pool, and transactions that are retried whole.

The SQL is the same for both. Under CockroachDB's SERIALIZABLE a transaction may be refused with 40001 at any point and
must be run again from its beginning, so work is given as a function and not as an open transaction.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
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
RETRYABLE = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)


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

    async def statement(self, query: LiteralString, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement as a transaction of its own, in one round trip, and return its rows.

        Raises:
            DomainError: DEPENDENCY_UNAVAILABLE when the database does not answer.
        """

        async def work(connection: Connection) -> list[Row]:
            cursor = await connection.execute(query, parameters)
            return await cursor.fetchall() if cursor.description else []

        return await self._retry(work, transaction=False)

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in one transaction, again from the start when the database asks for that.

        `work` may run several times and must change nothing but the database. When the connection dies it is not run
        again, for it may have committed.

        Raises:
            DomainError: DEPENDENCY_UNAVAILABLE when the database does not answer.
        """
        return await self._retry(work, transaction=True)

    async def _retry(self, work: Callable[[Connection], Awaitable[T]], *, transaction: bool) -> T:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                async with self._pool.connection(timeout=self._timeout_s) as connection:
                    await self._require_alive(connection)
                    if not transaction:
                        return await work(connection)
                    async with connection.transaction():
                        return await work(connection)
            except RETRYABLE as error:
                if attempt == MAX_ATTEMPTS:
                    raise _unavailable() from error
                await asyncio.sleep(0.005 * 2**attempt * (0.5 + random.random()))
            except _StaleConnectionError:
                # The others are likely dead as well; psycopg's own check would wait a second before each.
                await self._pool.check()
            except psycopg.OperationalError as error:
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
                await AsyncConnectionPool.check_connection(connection)
            except psycopg.OperationalError as error:
                raise _StaleConnectionError from error
        self._seen_alive[connection] = now

    async def check(self) -> None:
        """Ask whether the database answers; raises when it does not."""
        async with self._pool.connection(timeout=1.0) as connection:
            await connection.execute("SELECT 1")


def _unavailable() -> DomainError:
    return DomainError(
        Reason.DEPENDENCY_UNAVAILABLE,
        "The database is not available; try again shortly.",
        metadata={"service": "database"},
    )
