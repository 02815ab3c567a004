"""Turns on a real database: how they begin anywhere in the tree, are undone and end."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import psycopg
import pytest

from services.conversation.chat_model import (
    ChatMessage,
    FinishReason,
    ResponseForm,
    ResponseFormat,
    Role,
    Sampling,
    TokenUsage,
)
from services.conversation.model import ErrorSummary, Leaf, MessageStatus, OpenTurn, Outcome, TurnKind
from services.conversation.tree import Path, Place
from services.conversation.turn_history import history_pages
from services.conversation.turn_store import GenerationMovedError, KnownRequest
from services.runtime.database import Database
from services.runtime.errors import DomainError, Reason
from tests.store.conversation.chats import Chat, outcome, refused
from tests.store.conversation.seeding import conversation_database

EDIT, REGENERATE = TurnKind.EDIT, TurnKind.REGENERATE
SAMPLING = Sampling(0.5, 0.9, 100, 2**53 + 1, ("END", "é"), ResponseFormat(ResponseForm.GRAMMAR, 'root ::= "a"'))


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with conversation_database(postgres_url) as opened:
        yield opened


@pytest.fixture
async def chat(database: Database) -> Chat:
    return await Chat(database).create()


async def stored(chat: Chat) -> list[tuple[object, ...]]:
    """All that is stored of a conversation but the time of its last change."""
    return [
        *await chat.database.statement(
            "SELECT last_sequence, leaf_message_id, leaf_branch, leaf_depth, active_generation_id"
            " FROM conversation.conversations WHERE id = %(id)s",
            {"id": chat.id},
        ),
        *await chat.database.statement(
            "SELECT id, sequence, parent_id, branch, depth, content, status FROM conversation.messages"
            " WHERE conversation_id = %(id)s ORDER BY sequence",
            {"id": chat.id},
        ),
        *await chat.database.statement(
            "SELECT branch, path_branches, path_starts FROM conversation.branches"
            " WHERE conversation_id = %(id)s ORDER BY branch",
            {"id": chat.id},
        ),
        *await chat.database.statement(
            "SELECT id, status FROM conversation.generations WHERE conversation_id = %(id)s ORDER BY id",
            {"id": chat.id},
        ),
    ]


# One turn


async def test_a_turn_is_stored_once_and_ends_once(chat: Chat, database: Database) -> None:
    turn = await chat.open()
    message = await chat.end(turn)
    assert (message.content, message.status, message.parent_id) == (
        "the answer",
        MessageStatus.COMPLETED,
        turn.user_message.id,
    )
    failed = Outcome(MessageStatus.FAILED, FinishReason.ERROR, "", TokenUsage(), ErrorSummary("X", "INTERNAL", "x"))
    assert await chat.end(turn, failed) == message
    assert await database.statement("SELECT count(*) FROM conversation.usage_outbox") == [(1,)]
    assert [(m.role, m.content, m.sequence, m.depth) for m in await chat.branch()] == [
        (Role.USER, "hello", 1, 1),
        (Role.ASSISTANT, "the answer", 2, 2),
    ]


async def test_the_branch_that_is_shown_ends_in_the_answer_while_it_is_generated(chat: Chat) -> None:
    before = await chat.get()
    turn = await chat.open()
    shown = await chat.get()
    assert shown.current_message_id == turn.answer_id
    assert shown.updated_at > before.updated_at
    assert [(m.id, m.status) for m in await chat.branch()] == [
        (turn.user_message.id, MessageStatus.COMPLETED),
        (turn.answer_id, MessageStatus.IN_PROGRESS),
    ]
    assert await chat.message(turn.user_message.id) == turn.user_message


async def test_the_next_question_follows_the_last_answer(chat: Chat) -> None:
    first = await chat.say("one")
    second = await chat.open("two")
    assert second.user_message.parent_id == first.answer_id
    pages = history_pages(chat.turns, second)
    messages, exhausted = await pages(10)
    assert [message for _, message in messages] == [
        ChatMessage(Role.ASSISTANT, "[one]"),
        ChatMessage(Role.USER, "one"),
    ]
    assert exhausted


async def test_what_moderation_redacted_is_stored_redacted(chat: Chat) -> None:
    turn = await chat.open("my card is 4111")
    await chat.turns.change_question(turn, content="my card is [card]")
    assert (await chat.branch())[0].content == "my card is [card]"


async def test_only_the_owner_ends_a_turn(chat: Chat, database: Database) -> None:
    turn = await chat.open()
    await database.statement("UPDATE conversation.generations SET epoch = 2")
    with pytest.raises(GenerationMovedError):
        await chat.end(turn)
    assert (await chat.branch())[1].status is MessageStatus.IN_PROGRESS
    assert await database.statement("SELECT count(*) FROM conversation.usage_outbox") == [(0,)]
    assert (await chat.end(replace(turn, epoch=2))).status is MessageStatus.COMPLETED
    with pytest.raises(GenerationMovedError):
        await chat.end(turn)


# What a turn is begun with


async def test_the_model_is_the_requests_else_the_conversations_else_the_users(database: Database) -> None:
    async def model_of(chat: Chat, asked: str) -> str:
        turn = await chat.open(model=asked)
        await chat.turns.discard_turn(turn)
        return turn.model

    plain, own = await Chat(database).create(), await Chat(database).create(model="conversations")
    assert await model_of(plain, "") == "auto"
    await database.statement("INSERT INTO conversation.user_settings VALUES ('alice', 'be brief', 'users', now())")
    assert [await model_of(plain, ""), await model_of(own, ""), await model_of(own, "asked")] == [
        "users",
        "conversations",
        "asked",
    ]
    assert (await plain.open()).custom_instructions == "be brief"
    assert (await (await Chat(database, user="bob").create()).open()).custom_instructions == ""


@pytest.mark.parametrize("kind", list(TurnKind))
async def test_an_open_turn_is_read_as_it_was_begun(database: Database, kind: TurnKind) -> None:
    await database.statement("INSERT INTO conversation.user_settings VALUES ('alice', 'be brief', 'users', now())")
    chat = await Chat(database).create(model="conversations", system_prompt="be nice")
    first = await chat.say("one")
    await chat.say("two")
    request = str(uuid.uuid4())
    target = "" if kind is TurnKind.SEND else first.user_message.id
    asked = {"request_id": request, "model": "asked", "sampling": SAMPLING, "residency": "eu", "tenant_id": "acme"}
    turn = await chat.open("x", kind=kind, message_id=target, **asked)
    assert (turn.residency, turn.tenant_id) == ("eu", "acme")
    await database.statement("UPDATE conversation.generations SET epoch = 3, stop_requested = true, log_gap = true")
    loaded = await chat.turns.load_turn(turn.generation_id)
    assert loaded is not None
    assert loaded.turn == replace(turn, epoch=3)
    assert turn.custom_instructions == "be brief"
    assert turn.system_prompt == "be nice"
    assert (loaded.requested_model, loaded.sampling, loaded.request_id) == ("asked", SAMPLING, request)
    assert (loaded.stop_requested, loaded.log_gap) == (True, True)
    await database.statement("UPDATE conversation.generations SET epoch = 1")
    await chat.end(turn)
    assert await chat.turns.load_turn(turn.generation_id) is None
    assert await chat.turns.load_turn(str(uuid.uuid4())) is None


async def test_a_turn_that_was_asked_with_nothing_is_read_so(chat: Chat) -> None:
    loaded = await chat.turns.load_turn((await chat.open()).generation_id)
    assert loaded is not None
    assert (loaded.requested_model, loaded.sampling, loaded.request_id) == ("", Sampling(), "")
    assert loaded.turn.previous_leaf == Leaf()


async def test_messages_carry_their_user_and_generations_what_was_asked(chat: Chat, database: Database) -> None:
    await chat.say("one")
    await chat.regenerate((await chat.get()).current_message_id, "again", model="other")
    assert await database.statement("SELECT DISTINCT user_id FROM conversation.messages") == [("alice",)]
    assert await database.statement(
        "SELECT requested_model, epoch, owner FROM conversation.generations ORDER BY created_at"
    ) == [("", 1, "here"), ("other", 1, "here")]


# Anywhere in the tree


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_a_message_is_edited_beside_the_old_one(chat: Chat, position: int) -> None:
    turns = [await chat.say(text) for text in ("one", "two", "three")]
    old = turns[position].user_message
    edited = await chat.edit(old.id, "new")
    assert edited.user_message.parent_id == old.parent_id
    assert edited.user_message.depth == old.depth
    assert await chat.texts() == " ".join([*["one [one]", "two [two]", "three [three]"][:position], "new [new]"])
    assert await chat.texts(turns[-1].answer_id) == "one [one] two [two] three [three]"
    assert (await chat.message(old.id)).sibling_ids == (old.id, edited.user_message.id)
    assert (await chat.message(edited.user_message.id)).sibling_ids == (old.id, edited.user_message.id)


async def test_an_edited_branch_is_edited_again(chat: Chat) -> None:
    await chat.say("one")
    last = await chat.say("two")
    for text in ("b", "c", "d"):
        follow = await chat.edit(last.user_message.id, text)
        last = await chat.say(text * 2)
        assert last.user_message.parent_id == follow.answer_id
    assert await chat.texts() == "one [one] b [b] c [c] d [d] dd [dd]"
    assert last.path == Path((0, 1, 2, 3), (1, 3, 5, 7))


async def test_an_edit_of_the_first_message_of_a_branch_does_not_lie_on_that_branch(chat: Chat) -> None:
    await chat.say("one")
    second = await chat.say("two")
    edited = await chat.edit(second.user_message.id, "b")
    await chat.say("bb")
    again = await chat.edit(edited.user_message.id, "c")
    assert again.path == Path((0, 2), (1, 3))
    assert await chat.texts() == "one [one] c [c]"


async def test_answers_are_generated_again_and_again(chat: Chat, database: Database) -> None:
    await chat.say("one")
    turn = await chat.say("two")
    answers = [turn.answer_id]
    for number, named in enumerate(["answer", "question", "newest"]):
        target = {"answer": turn.answer_id, "question": turn.user_message.id, "newest": answers[-1]}[named]
        again = await chat.regenerate(target, str(number))
        answers.append(again.answer_id)
        assert not again.own_question
        # As it was stored, the generation that answered it first included.
        assert replace(again.user_message, generation_id=turn.generation_id) == turn.user_message
        assert await chat.texts() == f"one [one] two [{number}]"
    assert (await chat.message(turn.answer_id)).sibling_ids == tuple(answers)
    assert (await chat.get()).message_count == 7
    await chat.say("three")
    assert await chat.texts() == "one [one] two [2] three [three]"
    assert await database.statement("SELECT count(*) FROM conversation.messages WHERE role = 'user'") == [(3,)]


async def test_a_message_follows_the_one_that_is_named(chat: Chat) -> None:
    first = await chat.say("one")
    second = await chat.say("two", message_id=first.answer_id)
    assert second.opened_branch is None
    other = await chat.say("other", message_id=first.answer_id)
    assert (other.opened_branch, other.user_message.parent_id) == (1, first.answer_id)
    await chat.say("more", message_id=second.answer_id)
    assert await chat.texts() == "one [one] two [two] more [more]"
    assert await chat.texts(other.answer_id) == "one [one] other [other]"
    # Also a message without an answer can be followed.
    await chat.say("and", message_id=first.user_message.id)
    assert await chat.texts() == "one and [and]"


async def test_what_is_shown_need_not_be_the_end_of_its_branch(chat: Chat, database: Database) -> None:
    first = await chat.say("one")
    await chat.say("two")
    await database.statement(
        "UPDATE conversation.conversations SET leaf_message_id = %(leaf)s, leaf_depth = 2", {"leaf": first.answer_id}
    )
    turn = await chat.say("other")
    assert turn.previous_leaf == Leaf(first.answer_id, Place(0, 2))
    assert await chat.texts() == "one [one] other [other]"


async def test_a_message_after_an_older_sibling_was_selected_follows_that(chat: Chat) -> None:
    await chat.say("one")
    old = await chat.say("two")
    await chat.edit(old.user_message.id, "b")
    await chat.select(old.user_message.id)
    turn = await chat.say("three")
    assert turn.user_message.parent_id == old.answer_id
    assert await chat.texts() == "one [one] two [two] three [three]"


async def test_a_conversation_that_waits_for_a_lock_follows_what_came_meanwhile(database: Database) -> None:
    chat = await Chat(database).create()

    async def talk(name: int) -> None:
        done = 0
        while done < 8:
            try:
                turn = await chat.open(f"{name}.{done}")
            except DomainError as error:
                assert error.reason is Reason.CONVERSATION_BUSY  # noqa: PT017 - it is what is waited for
                continue
            if random.random() < 0.3:
                await chat.turns.discard_turn(turn)
                continue
            await chat.end(turn)
            done += 1

    await asyncio.gather(*(talk(name) for name in range(4)))
    messages = await chat.branch()
    assert [m.depth for m in messages] == [m.sequence for m in messages] == list(range(1, 65))
    assert [m.parent_id for m in messages] == ["", *(m.id for m in messages[:-1])]


async def test_a_turn_that_waited_follows_what_is_shown_by_then(
    chat: Chat, database: Database, postgres_url: str
) -> None:
    first = await chat.say("one")
    new = str(uuid.uuid4())
    async with await psycopg.AsyncConnection.connect(postgres_url) as other:
        # Another server stores an answer on a branch of its own, and the turn that waits does not see its rows.
        await other.execute("SELECT 1 FROM conversation.conversations FOR UPDATE")
        begin = asyncio.create_task(chat.open("two"))
        await until_somebody_waits_for_a_lock(database)
        await other.execute("INSERT INTO conversation.branches VALUES (%s, 1, '{0,1}', '{1,2}')", [chat.id])
        await other.execute(
            "INSERT INTO conversation.messages (conversation_id, sequence, id, parent_id, role, content, status,"
            " generation_id, created_at, branch, depth)"
            " VALUES (%s, 3, %s, %s, 'assistant', 'other', 'completed', gen_random_uuid(), now(), 1, 2)",
            [chat.id, new, first.user_message.id],
        )
        await other.execute(
            "UPDATE conversation.conversations SET leaf_message_id = %s, leaf_branch = 1, last_sequence = 3,"
            " next_branch = 2",
            [new],
        )
        await other.commit()
    turn = await begin
    assert turn.path == Path((0, 1), (1, 2))
    assert turn.previous_leaf == Leaf(new, Place(1, 2))
    assert turn.user_message.parent_id == new
    assert await history(chat, turn, 10) == ["other", "one"]
    await chat.end(turn, outcome("[two]"))
    assert await chat.texts() == "one other two [two]"


async def until_somebody_waits_for_a_lock(database: Database) -> None:
    async with asyncio.timeout(10):
        while not await database.statement("SELECT 1 FROM pg_locks WHERE NOT granted"):
            pass


# Refusals


async def test_messages_that_are_not_there_or_of_another_kind_are_refused(chat: Chat, database: Database) -> None:
    turn = await chat.say("one")
    other = await (await Chat(database).create()).say("elsewhere")
    before = await stored(chat)
    for kind in TurnKind:
        for message_id in (str(uuid.uuid4()), other.user_message.id, other.answer_id, "no-id"):
            error = await refused(Reason.MESSAGE_NOT_FOUND, chat.begin(kind=kind, message_id=message_id))
            assert error.metadata == {"message_id": message_id}
    error = await refused(Reason.WRONG_MESSAGE_ROLE, chat.begin(kind=EDIT, message_id=turn.answer_id))
    assert error.metadata == {"message_id": turn.answer_id, "role": "assistant"}
    await refused(Reason.CONVERSATION_NOT_FOUND, chat.begin(user="bob"))
    await refused(Reason.CONVERSATION_NOT_FOUND, chat.begin(kind=EDIT, message_id=turn.user_message.id, user="bob"))
    assert await stored(chat) == before


async def test_a_message_that_moderation_refused_is_edited_and_not_answered(chat: Chat) -> None:
    turn = await chat.open("bad")
    await chat.turns.change_question(turn, status=MessageStatus.BLOCKED)
    await chat.end(turn, outcome("", MessageStatus.BLOCKED))
    for message_id in (turn.user_message.id, turn.answer_id):
        error = await refused(Reason.WRONG_MESSAGE_ROLE, chat.begin(kind=REGENERATE, message_id=message_id))
        assert error.metadata == {"message_id": turn.user_message.id, "role": "user"}
        assert "moderation" in error.message
    await chat.edit(turn.user_message.id, "good")
    assert await chat.texts() == "good [good]"


async def test_an_answer_to_nothing_is_not_generated_again(chat: Chat, database: Database) -> None:
    turn = await chat.say("one")
    await database.statement("UPDATE conversation.messages SET parent_id = NULL")
    error = await refused(Reason.WRONG_MESSAGE_ROLE, chat.begin(kind=REGENERATE, message_id=turn.answer_id))
    assert error.metadata == {"message_id": turn.answer_id, "role": "assistant"}


async def test_a_deleted_conversation_is_not_there_also_for_who_asks_again(chat: Chat) -> None:
    request = str(uuid.uuid4())
    turn = await chat.say("one", request_id=request)
    await chat.conversations.delete(user_id="alice", conversation_id=chat.id)
    for begin in (
        chat.begin("two"),
        chat.begin("one", request_id=request),
        chat.begin(kind=EDIT, message_id=turn.user_message.id),
        chat.begin(kind=REGENERATE, message_id=turn.answer_id),
    ):
        await refused(Reason.CONVERSATION_NOT_FOUND, begin)


async def test_a_turn_in_a_conversation_that_is_deleted_meanwhile_ends(chat: Chat, database: Database) -> None:
    turn = await chat.open()
    await chat.conversations.delete(user_id="alice", conversation_id=chat.id)
    assert (await chat.end(turn)).status is MessageStatus.COMPLETED
    gone = await (await Chat(database).create()).open()
    await database.statement("DELETE FROM conversation.conversations WHERE id = %(id)s", {"id": gone.conversation_id})
    assert await chat.turns.finish_turn(gone, outcome(), model="m", route=None, last_seq=3) is None
    # The tokens were used all the same.
    assert await database.statement("SELECT count(*) FROM conversation.usage_outbox") == [(2,)]


# One at a time


@pytest.mark.parametrize("kind", list(TurnKind))
async def test_one_answer_at_a_time_also_for_those_that_begin_together(chat: Chat, kind: TurnKind) -> None:
    first = await chat.say("one")
    target = "" if kind is TurnKind.SEND else first.user_message.id
    results = await asyncio.gather(
        *(chat.begin(f"m{n}", kind=kind, message_id=target) for n in range(6)), return_exceptions=True
    )
    begun = [r for r in results if isinstance(r, OpenTurn)]
    busy = [r for r in results if isinstance(r, DomainError) and r.reason is Reason.CONVERSATION_BUSY]
    assert (len(begun), len(busy)) == (1, 5)
    for error in busy:
        assert error.metadata == {"conversation_id": chat.id, "generation_id": begun[0].generation_id}
    assert (await chat.get()).message_count == (3 if kind is REGENERATE else 4)


async def test_all_kinds_together_make_one_tree(chat: Chat) -> None:
    first = await chat.say("one")
    last = await chat.say("two")

    async def persist(kind: TurnKind, message_id: str, content: str) -> None:
        while True:
            try:
                await chat.say(content, kind=kind, message_id=message_id)
            except DomainError as error:
                assert error.reason is Reason.CONVERSATION_BUSY  # noqa: PT017 - it is what is waited for
            else:
                return

    await asyncio.gather(
        persist(TurnKind.SEND, "", "follows"),
        persist(TurnKind.SEND, last.answer_id, "named"),
        persist(EDIT, first.user_message.id, "b"),
        persist(EDIT, last.user_message.id, "c"),
        persist(REGENERATE, first.answer_id, "d"),
        persist(REGENERATE, last.answer_id, "e"),
    )
    assert (await chat.get()).message_count == 14
    texts = {await chat.texts(id_) for id_ in await leaves(chat)}
    assert {"b [b]", "one [one] c [c]", "one [one] two [two] named [named]"} <= texts | prefixes(texts)


async def leaves(chat: Chat) -> list[str]:
    rows = await chat.database.statement(
        "SELECT id FROM conversation.messages AS m WHERE conversation_id = %(id)s AND NOT EXISTS"
        " (SELECT 1 FROM conversation.messages AS c WHERE c.parent_id = m.id)",
        {"id": chat.id},
    )
    return [str(row[0]) for row in rows]


def prefixes(texts: set[str]) -> set[str]:
    return {" ".join(text.split()[:length]) for text in texts for length in range(len(text.split()))}


# The same request again


@pytest.mark.parametrize("kind", list(TurnKind))
async def test_a_repeated_request_is_one_turn(chat: Chat, kind: TurnKind) -> None:
    first = await chat.say("one")
    await chat.say("two")
    target = "" if kind is TurnKind.SEND else first.user_message.id
    request = str(uuid.uuid4())
    results = await asyncio.gather(
        *(chat.begin("x", kind=kind, message_id=target, request_id=request) for _ in range(5))
    )
    begun = [r for r in results if isinstance(r, OpenTurn)]
    known = [r for r in results if isinstance(r, KnownRequest)]
    assert (len(begun), len(known)) == (1, 4)
    assert {k.generation_id for k in known} == {begun[0].generation_id}
    assert all(k.open for k in known)
    await chat.end(begun[0])
    # Also while another answer is generated.
    await chat.open("another")
    again = await chat.begin("x", kind=kind, message_id=target, request_id=request)
    assert isinstance(again, KnownRequest)
    assert (again.open, again.answer.content) == (False, "the answer")
    await refused(Reason.REQUEST_ID_REUSED, chat.begin("y", kind=kind, message_id=target, request_id=request))


async def test_a_request_id_belongs_to_one_conversation_also_when_two_use_it_at_once(database: Database) -> None:
    chats = [await Chat(database).create() for _ in range(4)]
    request = str(uuid.uuid4())
    results = await asyncio.gather(*(c.begin(request_id=request) for c in chats), return_exceptions=True)
    begun = [r for r in results if isinstance(r, OpenTurn)]
    reused = [r for r in results if isinstance(r, DomainError) and r.reason is Reason.REQUEST_ID_REUSED]
    assert (len(begun), len(reused)) == (1, 3)
    assert isinstance(await (await Chat(database, user="bob").create()).begin(request_id=request), OpenTurn)


# Undoing


def at_the_end(_first: OpenTurn, _last: OpenTurn) -> dict[str, object]:
    return {}


def after_an_older_one(first: OpenTurn, _last: OpenTurn) -> dict[str, object]:
    return {"message_id": first.answer_id}


def edited_first(first: OpenTurn, _last: OpenTurn) -> dict[str, object]:
    return {"kind": EDIT, "message_id": first.user_message.id}


def edited_last(_first: OpenTurn, last: OpenTurn) -> dict[str, object]:
    return {"kind": EDIT, "message_id": last.user_message.id}


def regenerated_first(first: OpenTurn, _last: OpenTurn) -> dict[str, object]:
    return {"kind": REGENERATE, "message_id": first.answer_id}


def regenerated_last(_first: OpenTurn, last: OpenTurn) -> dict[str, object]:
    return {"kind": REGENERATE, "message_id": last.user_message.id}


@pytest.mark.parametrize("loaded", [False, True], ids=["by its owner", "by another server"])
@pytest.mark.parametrize(
    "asked", [at_the_end, after_an_older_one, edited_first, edited_last, regenerated_first, regenerated_last]
)
async def test_a_discarded_turn_leaves_no_trace(
    chat: Chat, *, asked: Callable[[OpenTurn, OpenTurn], dict[str, object]], loaded: bool
) -> None:
    first = await chat.say("one")
    last = await chat.say("two")
    before = await stored(chat)
    turn = await chat.open("new", **asked(first, last))
    if loaded:
        read = await chat.turns.load_turn(turn.generation_id)
        assert read is not None
        turn = read.turn
    await chat.turns.discard_turn(turn)
    assert await stored(chat) == before
    again = await chat.say("new", **asked(first, last))
    assert (await chat.get()).current_message_id == again.answer_id


async def test_a_discarded_first_turn_leaves_an_empty_conversation(chat: Chat) -> None:
    before = await stored(chat)
    await chat.turns.discard_turn(await chat.open())
    assert await stored(chat) == before
    assert not await chat.branch()
    await chat.say()


async def test_a_discarded_edit_shows_again_what_was_selected(chat: Chat) -> None:
    first = await chat.say("one")
    await chat.edit(first.user_message.id, "b")
    await chat.select(first.answer_id)
    before = await stored(chat)
    await chat.turns.discard_turn(await chat.open(kind=REGENERATE, message_id=first.answer_id))
    assert await stored(chat) == before


async def test_a_turn_that_has_ended_or_is_anothers_is_not_discarded(chat: Chat, database: Database) -> None:
    turn = await chat.say("one")
    before = await stored(chat)
    await chat.turns.discard_turn(turn)
    assert await stored(chat) == before
    turn = await chat.open("two")
    await database.statement("UPDATE conversation.generations SET epoch = 2 WHERE status = 'open'")
    before = await stored(chat)
    await chat.turns.discard_turn(turn)
    assert await stored(chat) == before


async def test_moderation_of_another_answer_leaves_the_question_as_it_is(chat: Chat) -> None:
    first = await chat.say("one")
    turn = await chat.open(kind=REGENERATE, message_id=first.answer_id)
    await chat.turns.change_question(turn, content="redacted", status=MessageStatus.BLOCKED)
    assert await chat.message(first.user_message.id) == first.user_message


# What was said before


async def test_history_is_that_of_the_branch(chat: Chat) -> None:
    await chat.say("one")
    second = await chat.say("two")
    await chat.say("three")
    turn = await chat.open("b", kind=EDIT, message_id=second.user_message.id)
    assert await history(chat, turn, 10) == ["[one]", "one"]
    await chat.end(turn, outcome("[b]"))
    again = await chat.open(kind=REGENERATE, message_id=second.answer_id)
    assert await history(chat, again, 1) == ["[one]", "one"]
    await chat.end(again, outcome("[two again]"))
    assert await history(chat, await chat.open("c"), 3) == ["[two again]", "two", "[one]", "one"]


async def test_the_model_does_not_see_what_failed_was_refused_or_is_empty(chat: Chat) -> None:
    await chat.say("one")
    for status in (MessageStatus.FAILED, MessageStatus.BLOCKED, MessageStatus.COMPLETED):
        await chat.end(await chat.open(f"to be {status}"), outcome("", status))
    refused_turn = await chat.open("refused")
    await chat.turns.change_question(refused_turn, status=MessageStatus.BLOCKED)
    await chat.end(refused_turn, outcome("", MessageStatus.BLOCKED))
    await chat.end(await chat.open("stopped"), outcome("half", MessageStatus.STOPPED))
    turn = await chat.open("now")
    seen = ["half", "stopped", "to be completed", "to be blocked", "to be failed", "[one]", "one"]
    for limit in range(1, 14):
        assert await history(chat, turn, limit) == seen


async def history(chat: Chat, turn: OpenTurn, limit: int) -> list[str]:
    """What is said before a turn, newest first, read in pages."""
    pages = history_pages(chat.turns, turn)
    found: list[str] = []
    while True:
        messages, exhausted = await pages(limit)
        assert len(messages) <= limit
        found += [message.content for _, message in messages]
        if exhausted:
            assert await pages(limit) == ([], True)
            return found
        assert messages
