"""Who runs which generation, on a real database: several servers, of which some are silent."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence

import pytest

from services.conversation.generation_store import CLAIM, GenerationStore
from services.conversation.model import OpenTurn
from services.conversation.turn_store import TurnStore
from services.runtime.database import Connection, Database
from services.runtime.errors import Reason
from tests.store.conversation.chats import Chat, refused
from tests.store.conversation.seeding import HandClock, conversation_database
from tests.store.conversation.test_message_cost import CountingDatabase


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with conversation_database(postgres_url) as opened:
        yield opened


def server(database: Database, life: str) -> GenerationStore:
    """A life of the server that is named before the slash."""
    store = GenerationStore(database=database, owner=life, name=life.partition("/")[0])
    store.address = f"{life}:1"
    return store


async def turn_of(owner: str, database: Database, *, user: str = "alice") -> OpenTurn:
    chat = await Chat(database, user=user).create()
    chat.turns = TurnStore(database=database, clock=HandClock(), owner=owner)
    return await chat.open()


async def silence(database: Database, owner: str, seconds: float = 1.0) -> None:
    """Let the lease of a server be over for so long."""
    await database.statement(
        "UPDATE conversation.servers SET alive_until = now() - %(seconds)s * INTERVAL '1 second'"
        " WHERE owner = %(owner)s",
        {"owner": owner, "seconds": seconds},
    )


async def many_of(owner: str, count: int, database: Database, *, status: str = "open") -> set[str]:
    """Generations, as many as are wanted."""
    chat = await Chat(database).create()
    rows = await database.statement(
        "INSERT INTO conversation.generations (id, conversation_id, user_id, tier, user_message_id, message_id,"
        " request_hash, epoch, owner, status, created_at)"
        " SELECT gen_random_uuid(), %(conversation)s::UUID, 'alice', 'free', gen_random_uuid(), gen_random_uuid(), '',"
        " 1, %(owner)s, %(status)s, now() FROM generate_series(1, %(count)s::INT8) RETURNING id",
        {"conversation": chat.id, "owner": owner, "count": count, "status": status},
    )
    return {str(id_) for (id_,) in rows}


async def owners(database: Database) -> set[str]:
    return {owner for (owner,) in await database.statement("SELECT owner FROM conversation.servers")}


# Saying that one lives


async def test_a_beat_says_what_one_owns_and_what_of_it_shall_stop(database: Database) -> None:
    one, other = server(database, "one/1"), server(database, "other/1")
    running, stopping = await turn_of("one/1", database), await turn_of("one/1", database)
    await turn_of("other/1", database)
    assert {id_: (owned.epoch, owned.stop_requested) for id_, owned in (await one.beat()).items()} == {
        running.generation_id: (1, False),
        stopping.generation_id: (1, False),
    }
    await other.request_stop(user_id="alice", generation_id=stopping.generation_id)
    owned = await one.beat()
    assert (owned[running.generation_id].stop_requested, owned[stopping.generation_id].stop_requested) == (False, True)


async def test_a_beat_says_of_what_something_was_shown(database: Database) -> None:
    one = server(database, "one/1")
    shown, other = await turn_of("one/1", database), await turn_of("one/1", database)
    await one.beat(begun=[shown.generation_id])
    store = TurnStore(database=database, clock=HandClock(), owner="one/1")
    loaded = [await store.load_turn(turn.generation_id) for turn in (shown, other)]
    assert [turn is not None and turn.begun for turn in loaded] == [True, False]


async def test_what_has_ended_is_nobodys(database: Database) -> None:
    one, other = server(database, "one/1"), server(database, "other/1")
    await one.beat()
    chat = await Chat(database).create()
    chat.turns = TurnStore(database=database, clock=HandClock(), owner="one/1")
    await chat.end(await chat.open())
    await silence(database, "one/1")
    assert await other.claim(own=True, others=True) == []
    assert await one.beat() == {}


# Taking over


async def test_only_the_silent_are_robbed_and_they_see_it(database: Database) -> None:
    one, other = server(database, "one/1"), server(database, "other/1")
    turn = await turn_of("one/1", database)
    await one.beat()
    await other.beat()
    assert await other.claim(own=True, others=True) == []
    await silence(database, "one/1")
    # Also of itself: it does not take its own generations over.
    assert await one.claim(own=True, others=True) == []
    assert await other.claim(own=True, others=False) == []
    assert await other.claim(own=False, others=True) == [turn.generation_id]
    assert (await other.beat())[turn.generation_id].epoch == 2
    assert await one.beat() == {}


async def test_a_new_life_takes_from_the_old_one_at_once(database: Database) -> None:
    old, new, other = server(database, "one/1"), server(database, "one/2"), server(database, "other/1")
    turn = await turn_of("one/1", database)
    await turn_of("other/1", database)
    await old.beat()
    await other.beat()
    assert await new.claim(own=False, others=True) == []
    assert await new.claim(own=True, others=False) == [turn.generation_id]


async def test_who_has_not_said_yet_that_it_lives_is_not_robbed_before_its_lease_is_over(database: Database) -> None:
    one, other = server(database, "one/1"), server(database, "other/1")
    turn = await turn_of("one/1", database)
    assert await other.claim(own=True, others=True) == []
    await other.tidy()
    assert await other.claim(own=True, others=True) == []
    await silence(database, "one/1")
    # It was only slow.
    await one.beat()
    await other.tidy()
    assert await other.claim(own=True, others=True) == []
    assert await server(database, "one/2").claim(own=True, others=False) == [turn.generation_id]


async def test_who_never_says_that_it_lives_is_dead(database: Database) -> None:
    other = server(database, "other/1")
    turn = await turn_of("one/1", database)
    await other.tidy()
    await silence(database, "one/1")
    assert await other.claim(own=False, others=True) == [turn.generation_id]


async def test_what_is_given_up_is_anybodys(database: Database) -> None:
    one, other = server(database, "one/1"), server(database, "other/1")
    turn, kept = await turn_of("one/1", database), await turn_of("one/1", database)
    await one.beat()
    await other.release(turn.generation_id)
    assert await other.claim(own=True, others=True) == []
    await one.release(turn.generation_id)
    assert (await one.beat()).keys() == {kept.generation_id}
    assert await other.claim(own=False, others=False) == [turn.generation_id]


async def test_who_retires_leaves_all_at_once(database: Database) -> None:
    one, other = server(database, "one/1"), server(database, "other/1")
    turn = await turn_of("one/1", database)
    await one.beat()
    await one.retire()
    assert await other.claim(own=False, others=True) == [turn.generation_id]


async def test_a_batch_is_no_larger_than_it_may_be(database: Database) -> None:
    one, other = server(database, "one/1"), server(database, "other/1")
    all_ = await many_of("one/1", CLAIM + 1, database)
    await one.beat()
    await one.retire()
    first = await other.claim(own=False, others=True)
    assert len(first) == CLAIM
    assert {*first, *await other.claim(own=False, others=True)} == all_


async def test_servers_that_race_get_different_ones(database: Database) -> None:
    all_ = await many_of("one/1", 5 * CLAIM, database)
    one = server(database, "one/1")
    await one.beat()
    await one.retire()

    async def take(store: GenerationStore) -> Sequence[str]:
        taken: list[str] = []
        while batch := await store.claim(own=False, others=True):
            taken += batch
        return taken

    taken = [id_ for ids in await asyncio.gather(*(take(server(database, f"{n}/1")) for n in range(4))) for id_ in ids]
    assert len(taken) == len(all_)
    assert set(taken) == all_
    assert await database.statement("SELECT DISTINCT epoch FROM conversation.generations") == [(2,)]


async def test_nobody_waits_for_what_another_is_taking(database: Database) -> None:
    one, other = server(database, "one/1"), server(database, "other/1")
    all_ = await many_of("one/1", 3, database)
    await one.beat()
    await one.retire()
    taking = sorted(all_)[0]

    async def while_taking(connection: Connection) -> Sequence[str]:
        await connection.execute("SELECT id FROM conversation.generations WHERE id = %s::UUID FOR UPDATE", [taking])
        return await other.claim(own=False, others=True)

    assert set(await database.run(while_taking)) == all_ - {taking}


async def test_looking_for_the_dead_does_not_read_what_the_living_run(database: Database, postgres_url: str) -> None:
    living = [f"living-{n}/1" for n in range(20)]
    for life in living:
        await many_of(life, 250, database)
        await server(database, life).beat()
    orphans = await many_of("one/1", 3, database)
    await server(database, "one/1").beat()
    await silence(database, "one/1")
    # What has ended is most of it.
    await many_of("one/1", 50_000, database, status="completed")
    await database.statement("VACUUM ANALYZE conversation.generations")
    await database.statement("VACUUM ANALYZE conversation.servers")
    async with CountingDatabase(postgres_url) as counting:
        await counting.statement("SELECT id FROM conversation.generations WHERE status = 'open'")
        assert counting.read >= 5_000  # So a query that reads all that is open is noticed.
        counting.read = 0
        await server(counting, "other/1").claim(own=True, others=True)
        assert 3 <= counting.read < 100
    assert set(await server(database, "other/1").beat()) == orphans


# What is known of servers


async def test_servers_that_died_long_ago_are_forgotten_unless_they_own_something(database: Database) -> None:
    await turn_of("owner/1", database)
    for life in ("owner/1", "long/1", "lately/1", "living/1"):
        await server(database, life).beat()
    for life in ("owner/1", "long/1"):
        await silence(database, life, seconds=90_000)
    await silence(database, "lately/1")
    await server(database, "living/1").tidy()
    assert await owners(database) == {"owner/1", "lately/1", "living/1"}
    [orphan] = await server(database, "living/1").claim(own=False, others=True)
    await server(database, "living/1").tidy()
    assert await owners(database) == {"lately/1", "living/1"}
    assert (await server(database, "living/1").beat()).keys() == {orphan}


# What users ask, and what they were shown


async def test_only_the_owner_says_that_a_log_has_a_gap(database: Database) -> None:
    one, other = server(database, "one/1"), server(database, "other/1")
    turn, alike = await turn_of("one/1", database), await turn_of("one/1", database)
    store = TurnStore(database=database, clock=HandClock(), owner="one/1")

    async def gaps() -> list[bool]:
        loaded = [await store.load_turn(each.generation_id) for each in (turn, alike)]
        return [each is not None and each.log_gap for each in loaded]

    await other.mark_gap([turn.generation_id], gap=True)
    assert await gaps() == [False, False]
    await one.mark_gap([turn.generation_id], gap=True)
    assert await gaps() == [True, False]
    await other.mark_gap([turn.generation_id], gap=False)
    assert await gaps() == [True, False]
    await one.mark_gap([turn.generation_id], gap=False)
    assert await gaps() == [False, False]


async def test_a_wish_to_stop_leads_to_the_server_that_can(database: Database) -> None:
    one, other = server(database, "one/1"), server(database, "other/1")
    turn = await turn_of("one/1", database)
    wish = {"user_id": "alice", "generation_id": turn.generation_id}
    assert (await other.request_stop(**wish))[1:] == ("one/1", "")
    await one.beat()
    generation, _, address = await other.request_stop(**wish)
    assert (generation.id, generation.epoch, address) == (turn.generation_id, 1, "one/1:1")
    await one.retire()
    assert (await other.request_stop(**wish))[1:] == ("one/1", "")
    await other.claim(own=False, others=True)
    await other.beat()
    generation, owner, address = await other.request_stop(**wish)
    assert (generation.epoch, owner, address) == (2, "other/1", "other/1:1")
    # The wish outlives its server.
    assert (await other.beat())[turn.generation_id].stop_requested


async def test_nobody_stops_what_is_not_theirs(database: Database) -> None:
    one = server(database, "one/1")
    turn = await turn_of("one/1", database)
    for user, id_ in (("bob", turn.generation_id), ("alice", str(uuid.uuid4())), ("alice", "no id")):
        await refused(Reason.GENERATION_NOT_FOUND, one.request_stop(user_id=user, generation_id=id_))
    assert not (await one.beat())[turn.generation_id].stop_requested
