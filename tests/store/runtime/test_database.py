"""Transactions that are retried whole, and connections that outlive their server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from services.runtime import database as database_module
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


async def connected_to(database: Database) -> int:
    [(process,)] = await database.statement("SELECT pg_backend_pid()")
    assert isinstance(process, int)
    return process


@contextmanager
def paused(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


async def test_a_statement_that_hangs_is_given_up_and_so_is_its_connection(postgres_url: str) -> None:
    async with Database(postgres_url, max_size=1) as database:
        first = await connected_to(database)
        with paused(first):
            with pytest.raises(DomainError) as refused:
                await database.statement("SELECT 1", timeout_s=0.2)
            assert refused.value.reason is Reason.DEPENDENCY_UNAVAILABLE
            assert await connected_to(database) != first


async def test_a_transaction_that_hangs_is_given_up_and_so_is_its_connection(postgres_url: str) -> None:
    async with Database(postgres_url, max_size=1) as database:
        first = await connected_to(database)

        async def work(connection: Connection) -> None:
            with paused(first):
                await connection.execute("SELECT 1")

        with pytest.raises(DomainError) as refused:
            await database.run(work, timeout_s=0.2)
        assert refused.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        assert await connected_to(database) != first


async def test_a_connection_that_hangs_is_replaced_before_anything_is_asked_of_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "IDLE_S", 0.0)
    monkeypatch.setattr(database_module, "CHECK_TIMEOUT_S", 0.2)
    async with Database(postgres_url, max_size=1) as database:
        first = await connected_to(database)
        with paused(first):
            assert await connected_to(database) != first


async def test_a_statement_that_takes_its_time_is_not_cut(postgres_url: str) -> None:
    async with Database(postgres_url, max_size=1) as database:
        first = await connected_to(database)
        await database.statement("SELECT pg_sleep(0.3)", timeout_s=30.0)
        # The time that one statement had is not that of the next.
        await database.statement("SELECT 1", timeout_s=1.0)
        await database.statement("SELECT pg_sleep(1.2)")
        assert await connected_to(database) == first


async def test_a_server_that_has_become_read_only_is_left(postgres_url: str) -> None:
    async with Database(postgres_url, max_size=1) as database:
        await database.statement("CREATE TABLE counter (id INT8 PRIMARY KEY)")
        await database.statement("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        with pytest.raises(DomainError) as refused:
            await database.statement("INSERT INTO counter VALUES (1)")
        assert refused.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        await database.statement("INSERT INTO counter VALUES (1)")
        assert await database.statement("SELECT id FROM counter") == [(1,)]


async def test_what_is_too_large_for_the_database_is_not_an_outage(postgres_url: str) -> None:
    async with Database(postgres_url, max_size=1) as database:
        first = await connected_to(database)
        with pytest.raises(psycopg.errors.ProgramLimitExceeded):
            await database.statement(
                "SELECT to_tsvector('simple', string_agg(md5(n::TEXT), ' ')) FROM generate_series(1, 60000) AS n"
            )
        assert await connected_to(database) == first
