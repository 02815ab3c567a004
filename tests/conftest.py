"""Real parts for tests: PostgreSQL, Redis, and the whole mesh behind its edge."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from services.cli.embedded import start_postgres, start_redis
from tests.mesh_process import MeshProcess, running_mesh


@pytest.fixture(scope="session")
def mesh() -> Iterator[MeshProcess]:
    """A mesh with the real model and the synthetic ones, shared by all tests that leave it as they found it."""
    with running_mesh() as running:
        yield running


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    """A short folder that also PostgreSQL's own user can pass through; Unix sockets want short paths."""
    with tempfile.TemporaryDirectory(prefix="cm-") as folder:
        path = Path(folder)
        path.chmod(0o711)
        yield path


@pytest.fixture(scope="session")
def postgres_server(server_dir: Path) -> Iterator[str]:
    """URL of a PostgreSQL server."""
    sockets = server_dir / "pg"
    sockets.mkdir()
    with start_postgres(server_dir / "data", socket_dir=sockets) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of an empty database that only this test uses."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        base, _, query = postgres_server.partition("?")
        yield f"{base.rpartition('/')[0]}/{name}?{query}"
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture(scope="session")
def redis_server(server_dir: Path) -> Iterator[str]:
    """URL of a Redis server."""
    sockets = server_dir / "redis"
    sockets.mkdir()
    with start_redis(server_dir / "redis-data", socket_dir=sockets) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> Iterator[str]:
    """URL of an empty Redis that only this test uses meanwhile."""
    from redis import Redis

    with Redis.from_url(redis_server) as client:
        client.flushall()
        yield redis_server
