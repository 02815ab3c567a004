"""The migrator on a real database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from services.runtime.migrations import migrate, read_migrations
from services.runtime.settings import SettingsError

TWO_STEPS = """-- A comment in front.
CREATE TABLE IF NOT EXISTS demo.a (id INT8 PRIMARY KEY)
-- step
CREATE TABLE IF NOT EXISTS demo.b (id INT8 PRIMARY KEY)
"""


async def tables(url: str) -> set[str]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        rows = await connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'demo'")
        return {row[0] for row in await rows.fetchall()} - {"migrations", "migration_lock"}


async def test_each_step_is_applied_once_by_replicas_that_start_together(postgres_url: str, tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").write_text(TWO_STEPS)
    # A statement that could not be run twice shows that nobody does.
    (tmp_path / "0002_second.sql").write_text("CREATE TABLE demo.c (id INT8 PRIMARY KEY)")
    await asyncio.gather(*(migrate(postgres_url, schema="demo", directory=tmp_path) for _ in range(4)))
    assert await tables(postgres_url) == {"a", "b", "c"}


async def test_what_only_cockroachdb_can_do_is_left_out_elsewhere(postgres_url: str, tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").write_text(TWO_STEPS)
    (tmp_path / "0002_regions.cockroach.sql").write_text("ALTER TABLE demo.a SET LOCALITY GLOBAL")
    await migrate(postgres_url, schema="demo", directory=tmp_path)
    assert await tables(postgres_url) == {"a", "b"}


async def test_a_file_that_was_cut_off_in_the_middle_is_completed(postgres_url: str, tmp_path: Path) -> None:
    path = tmp_path / "0001_first.sql"
    path.write_text(TWO_STEPS + "-- step\nCREATE TABLE demo.d (id NO_SUCH_TYPE)\n")
    with pytest.raises(psycopg.errors.UndefinedObject):
        await migrate(postgres_url, schema="demo", directory=tmp_path)
    assert await tables(postgres_url) == {"a", "b"}
    path.write_text(TWO_STEPS)
    await migrate(postgres_url, schema="demo", directory=tmp_path)
    assert await tables(postgres_url) == {"a", "b"}


async def test_a_file_that_was_changed_after_it_was_applied_is_refused(postgres_url: str, tmp_path: Path) -> None:
    path = tmp_path / "0001_first.sql"
    path.write_text(TWO_STEPS)
    await migrate(postgres_url, schema="demo", directory=tmp_path)
    path.write_text(TWO_STEPS + "-- step\nSELECT 1\n")
    with pytest.raises(SettingsError, match="0001_first.sql was changed"):
        await migrate(postgres_url, schema="demo", directory=tmp_path)


def test_a_file_with_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "first.sql").write_text("SELECT 1")
    with pytest.raises(SettingsError, match="first.sql"):
        read_migrations(tmp_path)
