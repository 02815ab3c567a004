"""Conversations between turns, on a real database."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.conversation.generation_store import GenerationStore
from services.conversation.message_store import MessageStore
from services.conversation.model import Conversation, ConversationOrder, GenerationState, TurnKind
from services.conversation.store import DELETE_GRACE, ConversationStore
from services.runtime.database import Database
from services.runtime.errors import Reason
from tests.store.conversation.chats import Chat, refused
from tests.store.conversation.seeding import HandClock, conversation_database

CREATED, UPDATED = ConversationOrder.CREATED, ConversationOrder.UPDATED


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with conversation_database(postgres_url) as opened:
        yield opened


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(database: Database, clock: HandClock) -> ConversationStore:
    return ConversationStore(database=database, clock=clock)


async def create(store: ConversationStore, title: str = "t", *, user: str = "alice", request_id: str = "") -> str:
    made = await store.create(user_id=user, title=title, model="", system_prompt="", request_id=request_id)
    return made.id


async def change(store: ConversationStore, id_: str, *, user: str = "alice", **fields: Any) -> Conversation:
    unset = {"title": None, "model": None, "system_prompt": None}
    return await store.update(user_id=user, conversation_id=id_, **{**unset, **fields})


async def delete(store: ConversationStore, id_: str, *, user: str = "alice") -> None:
    await store.delete(user_id=user, conversation_id=id_)


async def undelete(store: ConversationStore, id_: str, *, user: str = "alice") -> Conversation:
    return await store.undelete(user_id=user, conversation_id=id_)


async def pages(
    store: ConversationStore, *, size: int = 100, order: ConversationOrder = UPDATED, **filters: Any
) -> list[Conversation]:
    """All of a list, read page by page; others may work between the pages."""
    found: list[Conversation] = []
    before: tuple[datetime, str] | None = None
    while True:
        page = await store.list(user_id="alice", limit=size, before=before, order=order, **filters)
        found += page
        if len(page) < size:
            return found
        before = (page[-1].created_at if order is CREATED else page[-1].updated_at, page[-1].id)


async def titles(store: ConversationStore, **how: Any) -> str:
    return " ".join([conversation.title for conversation in await pages(store, **how)])


async def test_a_conversation_belongs_to_its_user(store: ConversationStore) -> None:
    id_ = await create(store)
    assert (await store.get(user_id="alice", conversation_id=id_)).title == "t"
    for stranger in (
        store.get(user_id="bob", conversation_id=id_),
        delete(store, id_, user="bob"),
        undelete(store, id_, user="bob"),
        change(store, id_, user="bob", title="mine"),
        store.get(user_id="alice", conversation_id="no-id"),
        delete(store, "no-id"),
        undelete(store, str(uuid.uuid4())),
    ):
        await refused(Reason.CONVERSATION_NOT_FOUND, stranger)
    assert await store.list(user_id="bob", limit=10, before=None) == []


async def test_creating_again_with_the_same_request_id_gives_the_same(store: ConversationStore) -> None:
    request = str(uuid.uuid4())
    first = await create(store, "a", request_id=request)
    assert await create(store, "a", request_id=request) == first
    assert await create(store, "a", user="bob", request_id=request) != first
    await refused(Reason.REQUEST_ID_REUSED, create(store, "b", request_id=request))
    # Pinned meanwhile it is the same still; deleted, it is not there to be given.
    await change(store, first, pinned=True)
    assert await create(store, "a", request_id=request) == first
    await delete(store, first)
    await refused(Reason.REQUEST_ID_REUSED, create(store, "a", request_id=request))


async def test_orders(store: ConversationStore) -> None:
    ids = [await create(store, title) for title in "abc"]
    await change(store, ids[0], model="tiny")
    await change(store, ids[1], pinned=True)
    assert await titles(store) == "a c b"
    assert await titles(store, order=CREATED) == "c b a"
    assert await titles(store, order=CREATED, size=1) == "c b a"


async def test_to_pin_and_to_archive_moves_nothing(store: ConversationStore) -> None:
    id_ = await create(store)
    made = await store.get(user_id="alice", conversation_id=id_)
    await create(store)
    changed = await change(store, id_, pinned=True, archived=True)
    assert (changed.pinned, changed.archived, changed.updated_at) == (True, True, made.updated_at)
    # Each by itself: what is not said stays.
    changed = await change(store, id_, archived=False)
    assert (changed.pinned, changed.archived, changed.updated_at) == (True, False, made.updated_at)
    changed = await change(store, id_, title="new", pinned=False)
    assert (changed.title, changed.pinned) == ("new", False)
    assert changed.updated_at > made.updated_at


async def test_filters(store: ConversationStore) -> None:
    ids = {title: await create(store, title) for title in ("plain", "pin", "arch", "both", "gone", "gone-arch")}
    for title in ("pin", "both"):
        await change(store, ids[title], pinned=True)
    for title in ("arch", "both", "gone-arch"):
        await change(store, ids[title], archived=True)
    for title in ("gone", "gone-arch"):
        await delete(store, ids[title])
    for order in (CREATED, UPDATED):
        assert await titles(store, order=order) == "pin plain"
        assert await titles(store, order=order, pinned=True) == "pin"
        assert await titles(store, order=order, pinned=False) == "plain"
        assert await titles(store, order=order, archived=True) == "both arch"
        assert await titles(store, order=order, archived=True, pinned=True) == "both"
        assert await titles(store, order=order, deleted=True) == "gone-arch gone"
        assert await titles(store, order=order, deleted=True, pinned=True) == ""


async def test_a_deleted_conversation_is_not_found_until_it_is_undeleted(
    database: Database, store: ConversationStore, clock: HandClock
) -> None:
    chat = await Chat(database, clock=clock).create()
    turn = await chat.say("hello")
    before = await chat.get()
    await delete(store, chat.id)
    [gone] = await pages(store, deleted=True)
    assert gone.deleted_at is not None
    assert (gone.id, gone.purge_at, gone.updated_at) == (chat.id, gone.deleted_at + DELETE_GRACE, before.updated_at)
    messages = MessageStore(database=database, clock=clock)
    named = {"user_id": "alice", "conversation_id": chat.id}
    for call in (
        store.get(**named),
        store.delete(**named),
        change(store, chat.id, title="new"),
        change(store, chat.id, pinned=True),
        chat.begin("again"),
        messages.get(message_id=turn.answer_id, **named),
        messages.select(message_id=turn.answer_id, **named),
        messages.list_branch(leaf_message_id="", limit=10, after=None, newest_first=False, **named),
    ):
        await refused(Reason.CONVERSATION_NOT_FOUND, call)
    assert await undelete(store, chat.id) == before
    assert await undelete(store, chat.id) == before
    assert await chat.texts() == "hello [hello]"
    await chat.say("again")


async def test_a_turn_ends_in_a_conversation_that_was_deleted_under_it(database: Database) -> None:
    chat = await Chat(database).create()
    turn = await chat.open("hello")
    await delete(chat.conversations, chat.id)
    assert (await chat.end(turn)).content == "the answer"
    await undelete(chat.conversations, chat.id)
    assert await chat.texts() == "hello the answer"


async def test_the_generations_of_a_deleted_conversation_are_out_of_sight(database: Database) -> None:
    store = GenerationStore(database=database, owner="here", name="here")
    chat, other = await Chat(database).create(), await Chat(database).create()
    ended, open_ = await chat.say("one"), await chat.open("two")
    seen = await other.open("three")

    async def listed(conversation_id: str = "") -> set[str]:
        found = await store.list(user_id="alice", conversation_id=conversation_id, state=None, limit=9, before=None)
        return {generation.id for generation in found}

    ids = {ended.generation_id, open_.generation_id}
    assert (await listed(), await listed(chat.id)) == (ids | {seen.generation_id}, ids)
    await delete(chat.conversations, chat.id)
    assert (await listed(), await listed(chat.id)) == ({seen.generation_id}, set())
    for id_ in ids:
        await refused(Reason.GENERATION_NOT_FOUND, store.get(user_id="alice", generation_id=id_))
        await refused(Reason.GENERATION_NOT_FOUND, store.request_stop(user_id="alice", generation_id=id_))
    # It runs on: whoever undeletes the conversation finds the answer.
    assert not (await store.beat())[open_.generation_id].stop_requested
    await chat.end(open_)
    await undelete(chat.conversations, chat.id)
    assert await listed(chat.id) == ids
    assert (await store.get(user_id="alice", generation_id=open_.generation_id)).state is GenerationState.COMPLETED
    await store.request_stop(user_id="alice", generation_id=seen.generation_id)
    assert (await store.beat())[seen.generation_id].stop_requested


async def test_when_the_grace_period_is_over_nothing_brings_it_back(database: Database, clock: HandClock) -> None:
    store = ConversationStore(database=database, clock=clock, delete_grace=timedelta(hours=1))
    id_ = await create(store)
    await delete(store, id_)
    clock.time += timedelta(minutes=59)
    assert len(await pages(store, deleted=True)) == 1
    clock.time += timedelta(minutes=2)
    assert await pages(store, deleted=True) == []
    await refused(Reason.CONVERSATION_NOT_FOUND, undelete(store, id_))


async def test_pages_are_stable_while_rows_come(store: ConversationStore) -> None:
    ids = [await create(store) for _ in range(5)]
    first = await store.list(user_id="alice", limit=2, before=None)
    await create(store)
    rest = await store.list(user_id="alice", limit=10, before=(first[-1].updated_at, first[-1].id))
    assert [c.id for c in [*first, *rest]] == ids[::-1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("order", [CREATED, UPDATED])
async def test_no_page_repeats_what_another_had_while_others_write(
    store: ConversationStore, order: ConversationOrder, seed: int
) -> None:
    chance = random.Random(seed)
    there = [await create(store) for _ in range(20)]
    doomed = [await create(store) for _ in range(10)]
    reading = True

    async def write() -> None:
        while reading:
            match chance.randrange(5):
                case 0:
                    await create(store)
                case 1:
                    await change(store, chance.choice(there), pinned=chance.random() < 0.5)
                case 2 if doomed:
                    await delete(store, doomed.pop())
                case _:
                    await change(store, chance.choice(there), title=f"t{chance.random()}")

    writers = [asyncio.create_task(write()) for _ in range(3)]
    for _ in range(4):
        found = [conversation.id for conversation in await pages(store, size=chance.randrange(2, 7), order=order)]
        assert len(found) == len(set(found))
        if order is CREATED:
            assert set(there) <= set(found)
    reading = False
    await asyncio.gather(*writers)
    # Something did move meanwhile.
    newest = [conversation.id for conversation in await pages(store)]
    assert newest != [conversation.id for conversation in await pages(store, order=CREATED)]


async def test_a_server_whose_clock_is_behind_brings_nothing_back_into_later_pages(
    database: Database, store: ConversationStore
) -> None:
    ids = [await create(store, title) for title in "abcd"]
    page = await store.list(user_id="alice", limit=2, before=None)
    assert [conversation.title for conversation in page] == ["d", "c"]
    late = HandClock()
    late.time = page[-1].updated_at - timedelta(milliseconds=2)
    await change(ConversationStore(database=database, clock=late), ids[3], title="D")
    rest = await store.list(user_id="alice", limit=2, before=(page[-1].updated_at, page[-1].id))
    assert [conversation.title for conversation in rest] == ["b", "a"]


async def test_turns_of_a_server_whose_clock_is_behind_move_nothing_back(database: Database, clock: HandClock) -> None:
    chat = await Chat(database, clock=clock).create()
    first = await chat.say("one")
    late = HandClock()
    late.time = clock.time - timedelta(seconds=1)
    behind = Chat(database, clock=late).adopt(chat.id)
    times = [(await chat.get()).updated_at]
    edit: dict[str, Any] = {"kind": TurnKind.EDIT, "message_id": first.user_message.id}
    for how in ({}, edit):
        turn = await behind.open("more", **how)
        times.append((await chat.get()).updated_at)
        await behind.end(turn)
        times.append((await chat.get()).updated_at)
    assert times == times[:1] * 5
    await chat.say("four")
    assert (await chat.get()).updated_at > times[0]
