"""What is deleted for good, on a real database and a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from chatmesh.moderation.v1 import review_service_pb2
from chatmesh.usage.v1 import usage_service_pb2
from chatmesh.usage.v1.usage_service_pb2_grpc import UsageServiceServicer, add_UsageServiceServicer_to_server
from services.conversation import purge
from services.conversation.generation_store import GenerationStore
from services.conversation.log_store import log_key
from services.conversation.model import MessageStatus, Settings
from services.conversation.peers.review import ReviewPeer
from services.conversation.peers.usage import UsagePeer
from services.conversation.purge import Purger
from services.conversation.share_store import ShareStore
from services.conversation.store import DELETE_GRACE
from services.conversation.usage_outbox import UsageOutbox
from services.conversation.user_store import UserStore
from services.runtime.client import ChannelPool
from services.runtime.database import Database
from services.runtime.errors import Reason
from services.runtime.redis import connect_redis
from tests.store.conversation.chats import Chat, outcome, refused
from tests.store.conversation.seeding import HandClock, chain, conversation_database, seed

TABLES = ("conversations", "messages", "generations", "branches", "shares", "feedback", "user_settings")


class FakeReview:
    """Notes who asks to be forgotten."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    async def forget_user(self, request: review_service_pb2.ForgetUserRequest, context: Any) -> Any:
        self.forgotten.append(dict(context.invocation_metadata())["x-chatmesh-user"])
        return review_service_pb2.ForgetUserResponse(events=2)


class FakeUsage(UsageServiceServicer):
    """Notes who asks to be forgotten; is away when told so."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.away = False
        self.when_forgotten: Callable[[], Awaitable[None]] | None = None
        self.when_settled: Callable[[usage_service_pb2.SettleRequest], Awaitable[None]] | None = None

    async def ForgetUser(self, request: usage_service_pb2.ForgetUserRequest, context: Any) -> Any:
        if self.away:
            await context.abort(grpc.StatusCode.INTERNAL, "away")
        self.forgotten.append(dict(context.invocation_metadata())["x-chatmesh-user"])
        if self.when_forgotten is not None:
            await self.when_forgotten()
        return usage_service_pb2.ForgetUserResponse(records=3)

    async def Acquire(self, request: usage_service_pb2.AcquireRequest, context: Any) -> Any:
        raise AssertionError("nothing is acquired")

    async def Settle(self, request: usage_service_pb2.SettleRequest, context: Any) -> Any:
        if self.when_settled is None:
            raise AssertionError("nothing is settled")
        await self.when_settled(request)
        return usage_service_pb2.SettleResponse(recorded=len(request.records))

    async def GetUsage(self, request: usage_service_pb2.GetUsageRequest, context: Any) -> Any:
        raise AssertionError("nothing is reported")


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with conversation_database(postgres_url) as opened:
        yield opened


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with connect_redis(redis_url) as client:
        yield client


@pytest.fixture
async def peers() -> AsyncIterator[tuple[FakeUsage, UsagePeer, FakeReview, ReviewPeer]]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    usage, review = FakeUsage(), FakeReview()
    add_UsageServiceServicer_to_server(usage, server)
    forget = grpc.unary_unary_rpc_method_handler(
        review.forget_user,
        request_deserializer=review_service_pb2.ForgetUserRequest.FromString,
        response_serializer=review_service_pb2.ForgetUserResponse.SerializeToString,
    )
    name = "chatmesh.moderation.v1.ReviewService"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, {"ForgetUser": forget})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with ChannelPool() as channels:
        channel = channels.channel(f"127.0.0.1:{port}")
        yield usage, UsagePeer(channel), review, ReviewPeer(channel)
    await server.stop(None)


@pytest.fixture
def usage(peers: tuple[FakeUsage, UsagePeer, FakeReview, ReviewPeer]) -> tuple[FakeUsage, UsagePeer]:
    return peers[0], peers[1]


@pytest.fixture
def review(peers: tuple[FakeUsage, UsagePeer, FakeReview, ReviewPeer]) -> tuple[FakeReview, ReviewPeer]:
    return peers[2], peers[3]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody settles what was used, and nobody is there to stop, nobody is waited for."""
    monkeypatch.setattr(purge, "PATIENCE_S", 0.0)


@pytest.fixture
def purger(
    database: Database,
    clock: HandClock,
    redis: Redis,
    usage: tuple[FakeUsage, UsagePeer],
    review: tuple[FakeReview, ReviewPeer],
) -> Purger:
    return Purger(database=database, usage=usage[1], review=review[1], redis=redis, clock=clock)


async def left(database: Database, user: str = "") -> dict[str, int]:
    """Rows by table, where there are any."""
    found = {}
    for table in TABLES:
        query = f"SELECT count(*) FROM conversation.{table}"
        if user and table in ("branches", "feedback"):
            query += " JOIN conversation.conversations AS c ON c.id = conversation_id WHERE c.user_id = %(user)s"
        elif user:
            query += " WHERE user_id = %(user)s"
        [(count,)] = await database.statement(query, {"user": user})
        if count:
            found[table] = count
    return found


async def a_life(database: Database, clock: HandClock, user: str) -> Chat:
    """One of everything that a user can have; returns one of two conversations."""
    first = await Chat(database, clock=clock, user=user).create()
    turn = await first.say("hello")
    await first.edit(turn.user_message.id, "hello again")
    await database.statement(
        "INSERT INTO conversation.feedback (conversation_id, message_id, rating, reason, comment, updated_at)"
        " VALUES (%(conversation)s, %(message)s, 'up', '', 'good', now())",
        {"conversation": first.id, "message": turn.answer_id},
    )
    await ShareStore(database=database, clock=clock).create(
        user_id=user, conversation_id=first.id, message_id=turn.answer_id
    )
    await UserStore(database=database, clock=clock).update(
        user_id=user, custom_instructions="I am " + user, default_model=None
    )
    other = await Chat(database, clock=clock, user=user).create()
    await other.say("bye")
    await other.conversations.delete(user_id=user, conversation_id=other.id)
    return first


EVERYTHING = {
    "conversations": 2,
    "messages": 6,
    "generations": 3,
    "branches": 1,
    "shares": 1,
    "feedback": 1,
    "user_settings": 1,
}


async def test_a_deleted_conversation_is_purged_when_its_grace_period_is_over(
    database: Database, clock: HandClock, purger: Purger
) -> None:
    chat = await a_life(database, clock, "alice")
    named = {"user_id": "alice", "conversation_id": chat.id}
    await purger.sweep()
    assert await left(database) == EVERYTHING
    clock.time += DELETE_GRACE + timedelta(seconds=1)
    await purger.sweep()
    assert await left(database) == {**EVERYTHING, "conversations": 1, "messages": 4, "generations": 2}
    await chat.conversations.delete(**named)
    clock.time += DELETE_GRACE - timedelta(seconds=1)
    await purger.sweep()
    await chat.conversations.undelete(**named)
    clock.time += timedelta(days=1000)
    await purger.sweep()
    assert (await chat.get()).id == chat.id
    await chat.conversations.delete(**named)
    clock.time += DELETE_GRACE + timedelta(seconds=1)
    await purger.sweep()
    assert await left(database) == {"user_settings": 1}


async def test_a_large_conversation_goes_in_parts(
    database: Database, clock: HandClock, purger: Purger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "ROWS", 3)
    monkeypatch.setattr(purge, "_SMALL", 1)
    chat = await a_life(database, clock, "alice")
    await seed(database, chain(*(f"{'qa'[number % 2]}{number}" for number in range(20))), user="alice")
    await database.statement("UPDATE conversation.conversations SET deleted_at = now(), purge_at = created_at")
    # As if the one before had been killed in the middle.
    await database.statement(
        "DELETE FROM conversation.messages WHERE conversation_id <> %(id)s AND sequence < 5", {"id": chat.id}
    )
    taken: list[int] = []
    statement = database.statement

    async def watched(query: Any, parameters: Any = None) -> Any:
        if not query.startswith("DELETE"):
            return await statement(query, parameters)
        monkeypatch.setattr(database, "statement", statement)
        before = await left(database)
        rows = await statement(query, parameters)
        after = await left(database)
        monkeypatch.setattr(database, "statement", watched)
        taken.append(sum(before[table] - after.get(table, 0) for table in before if table != "conversations"))
        return rows

    assert (await left(database))["messages"] >= 20
    monkeypatch.setattr(database, "statement", watched)
    await purger.sweep()
    monkeypatch.undo()
    assert await left(database) == {"user_settings": 1}
    # No statement took more, the last one too, with which the conversation goes.
    assert max(taken) == 3


async def test_all_of_a_users_data_is_deleted_and_nobody_elses(
    database: Database,
    clock: HandClock,
    purger: Purger,
    redis: Redis,
    usage: tuple[FakeUsage, UsagePeer],
    review: tuple[FakeReview, ReviewPeer],
) -> None:
    for user in ("alice", "bob"):
        await a_life(database, clock, user)
    logs = {
        user: [
            f"chatmesh:generation:{id_}"
            for (id_,) in await database.statement(
                "SELECT id FROM conversation.generations WHERE user_id = %(user)s", {"user": user}
            )
        ]
        for user in ("alice", "bob")
    }
    for key in (*logs["alice"], *logs["bob"]):
        await redis.xadd(key, {"e": "x"})
    assert await purger.delete_user("alice") == 2
    assert await left(database, "alice") == {}
    assert await left(database, "bob") == EVERYTHING
    assert (await redis.exists(*logs["alice"]), await redis.exists(*logs["bob"])) == (0, 3)
    assert usage[0].forgotten == review[0].forgotten == ["alice"]
    assert await database.statement("SELECT user_id FROM conversation.user_deletions") == []
    # What was used is still to be billed, under no name of theirs.
    names = [row[0] for row in await database.statement("SELECT user_id FROM conversation.usage_outbox")]
    assert (len(names), names.count("bob"), names.count("alice")) == (6, 3, 0)
    assert await UserStore(database=database, clock=clock).settings(user_id="alice") == Settings()
    assert await purger.delete_user("alice") == 0


async def test_a_turn_that_does_not_stop_brings_nothing_back(
    database: Database, clock: HandClock, purger: Purger, redis: Redis, usage: tuple[FakeUsage, UsagePeer]
) -> None:
    chat = await Chat(database, clock=clock).create()
    turn = await chat.open("hello")
    theirs = await Chat(database, clock=clock, user="bob").create()
    open_ = await theirs.open("hello")

    async def forgotten() -> None:
        # It ends between the records and the end of the deletion.
        assert await chat.turns.finish_turn(turn, outcome(), model="m", route=None, last_seq=1) is None
        await redis.xadd(log_key(turn.generation_id), {"e": "x"})

    usage[0].when_forgotten = forgotten
    assert await purger.delete_user("alice") == 1
    assert await left(database, "alice") == {}
    assert not [key async for key in redis.scan_iter("*generation*")]
    [(name,)] = await database.statement("SELECT user_id FROM conversation.usage_outbox")
    assert name.startswith("forgotten-")
    assert await database.statement("SELECT id::TEXT FROM conversation.generations WHERE NOT stop_requested") == [
        (open_.generation_id,)
    ]


async def test_answers_that_run_are_stopped_and_settled_before_their_user_is_forgotten(
    database: Database,
    clock: HandClock,
    purger: Purger,
    redis: Redis,
    usage: tuple[FakeUsage, UsagePeer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(purge, "PATIENCE_S", 60.0)
    fake, peer = usage
    owner = GenerationStore(database=database, owner="here", name="here")
    turns = {}
    for _ in range(3):
        chat = await Chat(database, clock=clock).create()
        turn = await chat.open("hello")
        turns[turn.generation_id] = (chat, turn)
        await redis.xadd(f"chatmesh:generation:{turn.generation_id}", {"e": "x"})
    settled: list[str] = []

    async def settle(request: usage_service_pb2.SettleRequest) -> None:
        assert fake.forgotten == []
        settled.extend(record.user_id for record in request.records)

    fake.when_settled = settle

    async def own() -> None:
        # What a server does: it looks what is wanted of its generations, and settles when they have ended.
        outbox = UsageOutbox(database=database, usage=peer, clock=clock)
        while open_ := await owner.beat():
            for id_, owned in open_.items():
                if owned.stop_requested:
                    chat, turn = turns[id_]
                    await chat.end(turn, outcome(status=MessageStatus.STOPPED))
                    break
            await asyncio.sleep(0)
        # The log is written to until the very end.
        for id_ in turns:
            await redis.xadd(f"chatmesh:generation:{id_}", {"e": "y"})
        await outbox.flush()

    _, count = await asyncio.gather(own(), purger.delete_user("alice"))
    assert count == 3
    assert settled == ["alice"] * 3
    assert fake.forgotten == ["alice"]
    assert await left(database) == {}
    assert await database.statement("SELECT 1 FROM conversation.usage_outbox") == []
    assert not [key async for key in redis.scan_iter("*generation*")]


async def test_a_deletion_that_was_interrupted_is_finished_by_whoever_sees_it(
    database: Database,
    clock: HandClock,
    purger: Purger,
    usage: tuple[FakeUsage, UsagePeer],
    review: tuple[FakeReview, ReviewPeer],
) -> None:
    fake, peer = usage
    await a_life(database, clock, "alice")
    fake.away = True
    await refused(Reason.DEPENDENCY_UNAVAILABLE, purger.delete_user("alice"))
    # Out of sight already; what comes after it is not concerned.
    later = await Chat(database, clock=clock, user="alice").create()
    await later.say("new")
    assert [c.id for c in await later.conversations.list(user_id="alice", limit=9, before=None)] == [later.id]
    settings = UserStore(database=database, clock=clock)
    await settings.update(user_id="alice", custom_instructions="new", default_model=None)

    async with connect_redis("redis://127.0.0.1:1") as nowhere:
        other = Purger(database=database, usage=peer, review=review[1], redis=nowhere, clock=clock)
        await other.sweep()
        # Too early: whoever was asked may be at it. The conversations were due all the same.
        assert fake.forgotten == []
        assert len(await database.statement("SELECT 1 FROM conversation.user_deletions")) == 1
        clock.time += timedelta(seconds=purge.INTERRUPTED_AFTER_S)
        await other.sweep()
        assert len(await database.statement("SELECT 1 FROM conversation.user_deletions")) == 1
        fake.away = False
        await other.sweep()
    assert fake.forgotten == ["alice"]
    assert await database.statement("SELECT 1 FROM conversation.user_deletions") == []
    assert await left(database) == {"conversations": 1, "messages": 2, "generations": 1, "user_settings": 1}
    assert (await settings.settings(user_id="alice")).custom_instructions == "new"


async def test_deletions_and_sweeps_beside_each_other(database: Database, clock: HandClock, purger: Purger) -> None:
    for _ in range(5):
        await a_life(database, clock, "alice")
    await asyncio.gather(*(purger.delete_user("alice") for _ in range(3)), *(purger.sweep() for _ in range(3)))
    assert await left(database) == {}
    assert await database.statement("SELECT 1 FROM conversation.user_deletions") == []


async def test_settings(database: Database, clock: HandClock) -> None:
    store = UserStore(database=database, clock=clock)
    assert await store.settings(user_id="alice") == Settings()
    first = await store.update(user_id="alice", custom_instructions="be brief", default_model=None)
    assert (first.custom_instructions, first.default_model, first.updated_at) == ("be brief", "", clock.time)
    second = await store.update(user_id="alice", custom_instructions=None, default_model="tiny")
    assert (second.custom_instructions, second.default_model) == ("be brief", "tiny")
    assert await store.settings(user_id="alice") == second
    third = await store.update(user_id="alice", custom_instructions="", default_model=None)
    assert (third.custom_instructions, third.default_model) == ("", "tiny")
    assert await store.settings(user_id="bob") == Settings()
