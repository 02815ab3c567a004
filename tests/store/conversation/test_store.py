"""The store on a real database."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

import services.conversation
from services.conversation.model import (
    ChatMessage,
    ErrorSummary,
    FinishReason,
    MessageStatus,
    OpenTurn,
    Outcome,
    Role,
    TokenUsage,
)
from services.conversation.store import ConversationStore
from services.conversation.turn_store import KnownRequest, TurnStore
from services.runtime.database import Database
from services.runtime.errors import DomainError, Reason
from services.runtime.migrations import migrate

DONE = Outcome(MessageStatus.COMPLETED, FinishReason.STOP, "the answer", TokenUsage(10, 3, 0))


class HandClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    directory = Path(services.conversation.__file__).parent / "migrations"
    # Twice, as after a restart.
    for _ in range(2):
        await migrate(postgres_url, schema="conversation", directory=directory)
    async with Database(postgres_url) as opened:
        yield opened


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(database: Database, clock: HandClock) -> ConversationStore:
    return ConversationStore(database=database, clock=clock)


@pytest.fixture
def turns(database: Database, clock: HandClock) -> TurnStore:
    return TurnStore(database=database, clock=clock, owner="here")


async def create(store: ConversationStore, user: str = "alice") -> str:
    made = await store.create(user_id=user, title="t", model="", system_prompt="", request_id="")
    return made.id


async def begin(
    turns: TurnStore, conversation_id: str, content: str = "hello", request_id: str = "", user: str = "alice"
) -> OpenTurn | KnownRequest:
    return await turns.begin_turn(
        user_id=user,
        tier="free",
        conversation_id=conversation_id,
        content=content,
        model="",
        request_id=request_id,
        request_hash=content,
    )


async def opened(turns: TurnStore, conversation_id: str, content: str = "hello") -> OpenTurn:
    turn = await begin(turns, conversation_id, content)
    assert isinstance(turn, OpenTurn)
    return turn


async def refused(error: Reason, awaitable: object) -> DomainError:
    with pytest.raises(DomainError) as caught:
        await awaitable  # type: ignore[misc]
    assert caught.value.reason is error
    return caught.value


async def test_a_conversation_belongs_to_its_user(store: ConversationStore, turns: TurnStore) -> None:
    id_ = await create(store)
    assert (await store.get(user_id="alice", conversation_id=id_)).title == "t"
    for stranger in (
        store.get(user_id="bob", conversation_id=id_),
        store.delete(user_id="bob", conversation_id=id_),
        store.update(user_id="bob", conversation_id=id_, title="mine", model=None, system_prompt=None),
        store.list_messages(user_id="bob", conversation_id=id_, limit=1, after=None, newest_first=False),
        begin(turns, id_, user="bob"),
        store.get(user_id="alice", conversation_id="no-id"),
    ):
        await refused(Reason.CONVERSATION_NOT_FOUND, stranger)


async def test_creating_again_with_the_same_request_id_gives_the_same(store: ConversationStore) -> None:
    request = str(uuid.uuid4())
    first = await store.create(user_id="alice", title="a", model="", system_prompt="", request_id=request)
    again = await store.create(user_id="alice", title="a", model="", system_prompt="", request_id=request)
    assert again == first
    other = await store.create(user_id="bob", title="a", model="", system_prompt="", request_id=request)
    assert other.id != first.id
    await refused(
        Reason.REQUEST_ID_REUSED,
        store.create(user_id="alice", title="b", model="", system_prompt="", request_id=request),
    )


async def test_pages_are_stable_while_rows_come(store: ConversationStore) -> None:
    ids = [await create(store) for _ in range(5)]
    first = await store.list(user_id="alice", limit=2, before=None)
    await create(store)
    rest = await store.list(user_id="alice", limit=10, before=(first[-1].updated_at, first[-1].id))
    assert [c.id for c in [*first, *rest]] == ids[::-1]


async def test_a_turn_is_stored_once_and_ends_once(
    store: ConversationStore, turns: TurnStore, database: Database
) -> None:
    id_ = await create(store)
    turn = await opened(turns, id_)
    message = await turns.finish_turn(turn, DONE, model="m", route=None)
    assert message is not None
    assert (message.content, message.status, message.parent_id) == (
        "the answer",
        MessageStatus.COMPLETED,
        turn.user_message.id,
    )
    failed = Outcome(MessageStatus.FAILED, FinishReason.ERROR, "", TokenUsage(), ErrorSummary("X", "INTERNAL", "x"))
    assert await turns.finish_turn(turn, failed, model="m", route=None) == message
    assert await database.statement("SELECT count(*) FROM conversation.usage_outbox") == [(1,)]
    messages = await store.list_messages(user_id="alice", conversation_id=id_, limit=10, after=None, newest_first=False)
    assert [(m.role, m.content, m.sequence) for m in messages] == [
        (Role.USER, "hello", 1),
        (Role.ASSISTANT, "the answer", 2),
    ]


async def test_the_next_question_follows_the_last_answer(store: ConversationStore, turns: TurnStore) -> None:
    id_ = await create(store)
    first = await opened(turns, id_)
    await turns.finish_turn(first, DONE, model="m", route=None)
    second = await opened(turns, id_, "again")
    assert second.user_message.parent_id == first.answer_id
    history = await turns.history(conversation_id=id_, before_sequence=second.user_message.sequence, limit=10)
    assert [message for _, _, message in history] == [
        ChatMessage(Role.ASSISTANT, "the answer"),
        ChatMessage(Role.USER, "hello"),
    ]


async def test_one_answer_at_a_time_also_for_two_that_begin_together(
    store: ConversationStore, turns: TurnStore
) -> None:
    id_ = await create(store)
    results = await asyncio.gather(*(begin(turns, id_, f"m{n}") for n in range(6)), return_exceptions=True)
    begun = [r for r in results if isinstance(r, OpenTurn)]
    busy = [r for r in results if isinstance(r, DomainError) and r.reason is Reason.CONVERSATION_BUSY]
    assert (len(begun), len(busy)) == (1, 5)
    assert (await store.get(user_id="alice", conversation_id=id_)).message_count == 2


async def test_a_repeated_message_is_stored_once(store: ConversationStore, turns: TurnStore) -> None:
    id_ = await create(store)
    request = str(uuid.uuid4())
    results = await asyncio.gather(*(begin(turns, id_, request_id=request) for _ in range(5)))
    begun = [r for r in results if isinstance(r, OpenTurn)]
    known = [r for r in results if isinstance(r, KnownRequest)]
    assert (len(begun), len(known)) == (1, 4)
    assert {k.generation_id for k in known} == {begun[0].generation_id}
    assert all(k.open for k in known)
    await turns.finish_turn(begun[0], DONE, model="m", route=None)
    again = await begin(turns, id_, request_id=request)
    assert isinstance(again, KnownRequest)
    assert (again.open, again.answer.content) == (False, "the answer")
    await refused(Reason.REQUEST_ID_REUSED, begin(turns, id_, "something else", request_id=request))


async def test_a_discarded_turn_leaves_nothing_and_frees_the_conversation(
    store: ConversationStore, turns: TurnStore
) -> None:
    id_ = await create(store)
    await turns.discard_turn(await opened(turns, id_))
    assert not await store.list_messages(user_id="alice", conversation_id=id_, limit=10, after=None, newest_first=False)
    await opened(turns, id_)


async def test_orphans_are_ended_when_their_lease_is_over(
    store: ConversationStore, turns: TurnStore, database: Database
) -> None:
    async def let_pass() -> None:
        await database.statement(
            "UPDATE conversation.conversations SET active_until = active_until - INTERVAL '8 seconds'"
        )

    id_ = await create(store)
    turn = await opened(turns, id_)
    await let_pass()
    await turns.extend_leases([turn.generation_id])
    await let_pass()
    assert await turns.fail_orphans(own=False) == 0
    await let_pass()
    assert await turns.fail_orphans(own=False) == 1
    messages = await store.list_messages(user_id="alice", conversation_id=id_, limit=10, after=None, newest_first=True)
    assert messages[0].status is MessageStatus.FAILED
    assert messages[0].error is not None
    # The owner, who was only slow, hears what became of its turn; what it used is not lost.
    late = await turns.finish_turn(turn, DONE, model="m", route=None)
    assert late is not None
    assert late.status is MessageStatus.FAILED
    assert await database.statement("SELECT count(*) FROM conversation.usage_outbox") == [(1,)]
    await opened(turns, id_)


async def test_a_sweep_that_waits_for_a_finish_does_not_undo_it(
    store: ConversationStore, turns: TurnStore, database: Database, postgres_url: str
) -> None:
    turn = await opened(turns, await create(store))
    await database.statement("UPDATE conversation.conversations SET active_until = now() - INTERVAL '1 second'")
    async with await psycopg.AsyncConnection.connect(postgres_url) as other:
        # Another process is about to end the turn, and holds its row.
        await other.execute(
            "UPDATE conversation.generations SET status = 'completed' WHERE id = %s", [turn.generation_id]
        )
        sweep = asyncio.create_task(turns.fail_orphans(own=False))
        await until_somebody_waits_for_a_lock(database)
        await other.commit()
    assert await sweep == 0


async def until_somebody_waits_for_a_lock(database: Database) -> None:
    async with asyncio.timeout(10):
        while not await database.statement("SELECT 1 FROM pg_locks WHERE NOT granted"):
            pass


async def test_a_restarted_process_ends_what_its_earlier_life_left(store: ConversationStore, turns: TurnStore) -> None:
    await opened(turns, await create(store))
    assert await turns.fail_orphans(own=False) == 0
    assert await turns.fail_orphans(own=True) == 1


async def test_what_moderation_redacted_is_stored_redacted(store: ConversationStore, turns: TurnStore) -> None:
    id_ = await create(store)
    turn = await opened(turns, id_, "my card is 4111")
    await turns.change_question(turn, content="my card is [card]")
    messages = await store.list_messages(user_id="alice", conversation_id=id_, limit=1, after=None, newest_first=False)
    assert messages[0].content == "my card is [card]"


async def test_deleting_takes_everything_also_under_a_running_turn(
    store: ConversationStore, turns: TurnStore, database: Database
) -> None:
    id_ = await create(store)
    turn = await opened(turns, id_)
    await store.delete(user_id="alice", conversation_id=id_)
    assert await turns.finish_turn(turn, DONE, model="m", route=None) is None
    counts = await database.statement(
        "SELECT (SELECT count(*) FROM conversation.conversations), (SELECT count(*) FROM conversation.messages),"
        " (SELECT count(*) FROM conversation.generations), (SELECT count(*) FROM conversation.usage_outbox)"
    )
    # The tokens were used all the same.
    assert counts == [(0, 0, 0, 1)]
