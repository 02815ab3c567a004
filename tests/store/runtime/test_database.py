"""Transactions that are retried whole, and connections that outlive their server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from services.runtime.database import Connection, Database
from services.runtime.errors import DomainError, Reason


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with Database(f"{postgres_url}&options=-cdefault_transaction_isolation%3Dserializable") as opened:
        await opened.statement("CREATE TABLE counter (id INT8 PRIMARY KEY, value INT8 NOT NULL)")
        await opened.statement("INSERT INTO counter VALUES (1, 0)")
        yield opened


async def increment(connection: Connection) -> None:
    row = await (await connection.execute("SELECT value FROM counter WHERE id = 1")).fetchone()
    assert row is not None
    await connection.execute("UPDATE counter SET value = %s WHERE id = 1", [row[0] + 1])


async def test_conflicting_transactions_are_refused_by_the_database_and_retried_here(
    database: Database, postgres_url: str
) -> None:
    # The fault bites: two that read before either writes cannot both commit.
    refused = 0
    async with (
        await psycopg.AsyncConnection.connect(postgres_url) as one,
        await psycopg.AsyncConnection.connect(postgres_url) as other,
    ):
        for connection in (one, other):
            await connection.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE)
            await connection.execute("SELECT value FROM counter WHERE id = 1")
        await one.execute("UPDATE counter SET value = value + 1 WHERE id = 1")
        await one.commit()
        try:
            await other.execute("UPDATE counter SET value = value + 1 WHERE id = 1")
        except psycopg.errors.SerializationFailure:
            refused += 1
        await other.rollback()
    assert refused == 1
    # The mitigation: all of them get through, each once.
    attempts = 0

    async def work(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        await increment(connection)

    await asyncio.gather(*(database.run(work) for _ in range(12)))
    assert await database.statement("SELECT value FROM counter") == [(13,)]
    assert attempts > 12


async def test_work_that_fails_leaves_nothing(database: Database) -> None:
    async def work(connection: Connection) -> None:
        await increment(connection)
        raise KeyError

    with pytest.raises(KeyError):
        await database.run(work)
    assert await database.statement("SELECT value FROM counter") == [(0,)]


async def test_connections_that_the_server_closed_are_replaced_after_the_first_failure(
    database: Database, postgres_url: str
) -> None:
    async def hold(connection: Connection) -> None:
        await connection.execute("SELECT pg_sleep(0.05)")

    await asyncio.gather(*(database.run(hold) for _ in range(4)))
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as other:
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    results = [await outcome(database) for _ in range(6)]
    assert set(results) <= {None, Reason.DEPENDENCY_UNAVAILABLE}
    assert results[1:] == [None] * 5


async def outcome(database: Database) -> Reason | None:
    try:
        await database.statement("SELECT 1")
    except DomainError as error:
        return error.reason
    return None


async def test_a_database_that_is_not_there_is_a_typed_error() -> None:
    async with Database("postgresql://nobody@127.0.0.1:1/none", timeout_s=0.3) as nowhere:
        with pytest.raises(DomainError) as refused:
            await nowhere.statement("SELECT 1")
        assert refused.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        assert "nobody" not in refused.value.message
