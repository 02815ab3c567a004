"""Brings a service's schema up to date.

A migration is a file `NNNN_name.sql`; what only CockroachDB can do stands in `NNNN_name.cockroach.sql` and is skipped
elsewhere. Statements are separated by a line `-- step`, and each is run by itself: CockroachDB commits every DDL
statement on its own, so a file may be cut off in the middle. Hence every statement must be one that can be run again
(`IF NOT EXISTS`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from services.runtime.clock import new_id
from services.runtime.settings import SettingsError

_log = logging.getLogger(__name__)

_FILE = re.compile(r"(\d{4})_[a-z0-9_]+(\.cockroach)?\.sql")
_STEP = re.compile(r"^-- step\s*$", re.MULTILINE)
_LOCK_SECONDS = 60
_MADE_BY_ANOTHER = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateSchema,
    psycopg.errors.DuplicateObject,
)
_CONNECT_ATTEMPTS = 60


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name, whether only CockroachDB takes it, its statements, and the hash of its text."""

    name: str
    cockroach_only: bool
    steps: tuple[str, ...]
    checksum: str


def read_migrations(directory: Path) -> list[Migration]:
    """The migrations of a directory in their order.

    Raises:
        SettingsError: when a file is not named as a migration.
    """
    migrations = []
    for path in sorted(directory.glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise SettingsError(f"{path.name}: a migration is called NNNN_name.sql or NNNN_name.cockroach.sql")
        text = path.read_text(encoding="utf-8")
        steps = tuple(step.strip() for step in _STEP.split(text) if step.strip())
        migrations.append(Migration(path.name, bool(match.group(2)), steps, hashlib.sha256(text.encode()).hexdigest()))
    return migrations


async def migrate(url: str, *, schema: str, directory: Path) -> None:
    """Apply the migrations that `schema` does not have yet. Replicas that start together wait for each other.

    Raises:
        SettingsError: when the database cannot be reached for a minute, or an applied file was changed since.
    """
    migrations = read_migrations(directory)
    async with await _connect(url) as connection:
        await _create_bookkeeping(connection, schema)
        owner = new_id()
        await _lock(connection, schema, owner)
        try:
            await _apply(connection, schema, migrations)
        finally:
            await connection.execute(
                sql.SQL("DELETE FROM {}.migration_lock WHERE owner = %s").format(sql.Identifier(schema)), [owner]
            )


async def _connect(url: str) -> psycopg.AsyncConnection:
    for attempt in range(_CONNECT_ATTEMPTS):
        try:
            return await psycopg.AsyncConnection.connect(url, autocommit=True)
        except psycopg.OperationalError as error:
            if attempt == 0:
                _log.warning("waiting for the database", extra={"error": type(error).__name__})
            await asyncio.sleep(1.0)
    raise SettingsError("CHATMESH_DATABASE_URL: the database cannot be reached")


async def _create_bookkeeping(connection: psycopg.AsyncConnection, schema: str) -> None:
    name = sql.Identifier(schema)
    statements = (
        "CREATE SCHEMA IF NOT EXISTS {}",
        "CREATE TABLE IF NOT EXISTS {}.migrations (name TEXT PRIMARY KEY, checksum TEXT NOT NULL, "
        "applied_at TIMESTAMPTZ NOT NULL DEFAULT now())",
        "CREATE TABLE IF NOT EXISTS {}.migration_lock (id INT8 PRIMARY KEY, owner TEXT NOT NULL, "
        "expires_at TIMESTAMPTZ NOT NULL)",
    )
    for statement in statements:
        try:
            await connection.execute(sql.SQL(statement).format(name))
        except _MADE_BY_ANOTHER:
            # PostgreSQL lets two sessions race past IF NOT EXISTS; the other one has made it.
            _log.debug("made by another replica", extra={"schema": schema})


async def _lock(connection: psycopg.AsyncConnection, schema: str, owner: str) -> None:
    """Take the lock row. CockroachDB's advisory locks lock nothing, so a row with an expiry does it on both."""
    statement = sql.SQL(
        "INSERT INTO {}.migration_lock AS held (id, owner, expires_at) "
        "VALUES (1, %s, now() + %s * INTERVAL '1 second') "
        "ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at "
        "WHERE held.expires_at < now() RETURNING owner"
    ).format(sql.Identifier(schema))
    while True:
        cursor = await connection.execute(statement, [owner, _LOCK_SECONDS])
        if await cursor.fetchone() is not None:
            return
        await asyncio.sleep(0.2)


async def _apply(connection: psycopg.AsyncConnection, schema: str, migrations: list[Migration]) -> None:
    name = sql.Identifier(schema)
    cursor = await connection.execute(sql.SQL("SELECT name, checksum FROM {}.migrations").format(name))
    applied: dict[str, str] = dict(await cursor.fetchall())
    is_cockroach = await _is_cockroach(connection)
    for migration in migrations:
        if migration.cockroach_only and not is_cockroach:
            continue
        if migration.name in applied:
            if applied[migration.name] != migration.checksum:
                raise SettingsError(f"migration {migration.name} was changed after it was applied; add a new file")
            continue
        for step in migration.steps:
            await connection.execute(step.encode())
        await connection.execute(
            sql.SQL("INSERT INTO {}.migrations (name, checksum) VALUES (%s, %s)").format(name),
            [migration.name, migration.checksum],
        )
        _log.info("migrated", extra={"schema": schema, "migration": migration.name})


async def _is_cockroach(connection: psycopg.AsyncConnection) -> bool:
    cursor = await connection.execute("SELECT version()")
    row = await cursor.fetchone()
    return row is not None and "CockroachDB" in str(row[0])
