"""What a server does with the generations of another that is gone, when it cannot go on with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.conversation.chat_model import Sampling
from services.conversation.generation_log import Entry
from services.conversation.generation_store import CLAIM, GenerationStore
from services.conversation.model import OpenTurn
from services.conversation.ownership import MAX_EPOCHS, Ownership
from services.conversation.turn_store import TurnStore
from services.runtime.database import Database
from services.runtime.errors import DomainError
from tests.store.conversation.seeding import HandClock, conversation_database
from tests.store.conversation.test_generation_store import many_of, server, turn_of


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with conversation_database(postgres_url) as opened:
        yield opened


class Turns:
    """Runs nothing, and knows what it was asked to run."""

    def __init__(self) -> None:
        self.running: dict[str, Any] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.taken: list[tuple[str, bool]] = []
        """Generations, and whether they were to end as lost."""
        self.fails = False

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    async def take_over(
        self, turn: OpenTurn, sampling: Sampling, entries: Sequence[Entry], *, lost: DomainError | None
    ) -> None:
        self.taken.append((turn.generation_id, lost is not None))
        if self.fails:
            raise ValueError


class Logs:
    """Logs that nobody can read, and how often somebody tried."""

    def __init__(self) -> None:
        self.reads = 0

    async def fence(self, generation_id: str, epoch: int) -> Sequence[Entry]:
        self.reads += 1
        raise ValueError


class Heir:
    """A server that comes after one of the same name."""

    def __init__(self, database: Database) -> None:
        self.generations = GenerationStore(database=database, owner="one/2", name="one")
        self.turns = Turns()
        self.logs = Logs()
        self.ownership = Ownership(
            generations=self.generations,
            store=TurnStore(database=database, clock=HandClock(), owner="one/2"),
            log_store=cast(Any, self.logs),
            turns=cast(Any, self.turns),
            watch=cast(Any, None),
            generator=cast(Any, None),
            metrics=cast(Any, SimpleNamespace(taken_over=lambda: None)),
        )

    async def start(self) -> None:
        await self.ownership.start()
        await asyncio.gather(*self.turns.tasks)

    async def keeps(self) -> set[str]:
        """What it owns still after it has looked often enough to give up what it does not run."""
        for _ in range(3):
            await self.ownership._beat()
        return set(await self.generations.beat())


async def test_what_cannot_go_on_ends_as_lost(database: Database) -> None:
    turn = await turn_of("one/1", database)
    await server(database, "one/1").beat()
    heir = Heir(database)
    await heir.start()
    assert heir.logs.reads == 1
    assert heir.turns.taken == [(turn.generation_id, True)]


async def test_what_cannot_even_end_does_not_go_from_server_to_server(database: Database) -> None:
    turn = await turn_of("one/1", database)
    await server(database, "one/1").beat()
    heir = Heir(database)
    heir.turns.fails = True
    await heir.start()
    assert await heir.keeps() == {turn.generation_id}
    assert heir.turns.taken == [(turn.generation_id, True)]


async def test_what_has_outlived_too_many_servers_ends_unread(database: Database) -> None:
    turn = await turn_of("one/1", database)
    await database.statement("UPDATE conversation.generations SET epoch = %(last)s", {"last": MAX_EPOCHS})
    await server(database, "one/1").beat()
    heir = Heir(database)
    await heir.start()
    assert heir.logs.reads == 0
    assert heir.turns.taken == [(turn.generation_id, True)]


async def test_all_that_the_last_life_left_is_taken_at_the_start(database: Database) -> None:
    left = await many_of("one/1", 2 * CLAIM + 1, database)
    await server(database, "one/1").beat()
    heir = Heir(database)
    await heir.ownership.start()
    assert set(await heir.generations.beat()) == left
    await asyncio.gather(*heir.turns.tasks)


async def test_a_start_without_a_database_is_a_start() -> None:
    async with Database("postgresql://nobody@127.0.0.1:1/none", timeout_s=0.3) as nowhere:
        heir = Heir(nowhere)
        await heir.start()
        assert heir.turns.taken == []
