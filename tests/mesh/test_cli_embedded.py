"""The embedded PostgreSQL and Redis, really started."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import psycopg
import pytest
import redis

from services.cli.embedded import start_postgres, start_redis
from services.cli.errors import CliError
from services.cli.home import Home


@pytest.fixture
def home() -> Iterator[Home]:
    # Not under pytest's own folder: its paths are too long for sockets, and closed to other users.
    home = Home(Path(mkdtemp(prefix="cm-")))
    home.prepare()
    yield home
    shutil.rmtree(home.root)


@pytest.fixture
def hidden_home() -> Iterator[Home]:
    """A home that other users cannot reach: below a folder that only its owner passes through."""
    outer = Path(mkdtemp(prefix="cm-"))
    outer.chmod(0o700)
    home = Home(outer / "a" / "home")
    home.prepare()
    yield home
    shutil.rmtree(outer)


def test_postgres_keeps_what_was_committed(home: Home) -> None:
    for expected in (1, 2):
        with (
            start_postgres(home.data / "postgres", socket_dir=home.socket_dir("postgres")) as url,
            psycopg.connect(url) as connection,
        ):
            connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
            connection.execute("INSERT INTO kept VALUES (1)")
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (expected,)


def test_postgres_is_durable_and_logs_no_statements(home: Home) -> None:
    with (
        start_postgres(home.data / "postgres", socket_dir=home.socket_dir("postgres")) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        names = ("synchronous_commit", "max_connections", "fsync", "listen_addresses", "server_encoding", "TimeZone")
        values = [connection.execute(f"SHOW {name}").fetchone() for name in names]
        assert values == [("on",), ("100",), ("on",), ("",), ("UTF8",), ("UTC",)]
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT 'words of a user' FROM nowhere")
    assert "words of a user" not in (home.data / "postgres" / "server.log").read_text()


def test_a_creation_that_was_broken_off_is_begun_anew(home: Home) -> None:
    folder = home.data / "postgres"
    (folder / "base").mkdir(parents=True)
    (folder / "PG_VERSION").write_text("18\n")

    with start_postgres(folder, socket_dir=home.socket_dir("postgres")) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user reaches its own folders anyhow")
def test_root_runs_postgres_where_nobody_else_can_look(hidden_home: Home) -> None:
    folder = hidden_home.data / "postgres"
    socket_dir = hidden_home.socket_dir("postgres")
    with start_postgres(folder, socket_dir=socket_dir) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert folder.stat().st_uid != 0


def test_redis_keeps_what_was_written(home: Home) -> None:
    for expected in (1, 2):
        with start_redis(home.data / "redis", socket_dir=home.socket_dir("redis")) as url:
            client = redis.Redis.from_url(url)
            assert client.incr("kept") == expected
            client.close()


def test_a_server_that_cannot_start_says_why(home: Home) -> None:
    folder = home.data / "postgres"
    with start_postgres(folder, socket_dir=home.socket_dir("postgres")):
        pass
    (folder / "postgresql.conf").write_text("no_such_setting = 1\n")

    with (
        pytest.raises(CliError, match="postgres did not start"),
        start_postgres(folder, socket_dir=home.socket_dir("postgres")),
    ):
        pass
