from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import psycopg
import pytest
import pytest_asyncio

from tests.rpc.conversation.stage import Stage, running_stage

StartStage = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture(scope="session")
def conversation_database(postgres_server: str) -> Iterator[str]:
    """URL of a database that the tests of this folder share; each has users of its own."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        base, _, query = postgres_server.partition("?")
        yield f"{base.rpartition('/')[0]}/{name}?{query}"
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_stage(conversation_database: str, redis_server: str) -> AsyncIterator[Stage]:
    # A database of its own: it outlives many tests, and would read what others publish for the servers of theirs.
    async with running_stage(conversation_database, f"{redis_server}?db=1") as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="session")
async def stage(shared_stage: Stage) -> AsyncIterator[Stage]:
    """A process that the tests share; it is the same after each as it was before."""
    shared_stage.forget()
    yield shared_stage
    await shared_stage.check()


@pytest.fixture
def start_stage(postgres_url: str, redis_server: str) -> StartStage:
    """Start a process that the test has for itself, with settings of its own."""

    @asynccontextmanager
    async def start(
        *, database_url: str = postgres_url, redis_url: str = redis_server, **settings: object
    ) -> AsyncIterator[Stage]:
        async with running_stage(database_url, redis_url, **settings) as stage:
            yield stage
            await stage.check()

    return start
