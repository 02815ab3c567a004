"""Links on a real database."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from services.conversation import share_store
from services.conversation.share_store import ShareStore
from services.runtime.database import Database
from services.runtime.errors import DomainError, Reason
from tests.store.conversation.seeding import HandClock, Node, Seeded, chain, conversation_database, seed

TREE = [*chain("q1", "a1", "q2", "a2", "q3", "a3"), *chain("a2b", "q3b", "a3b", after="q2")]


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with conversation_database(postgres_url) as opened:
        yield opened


@pytest.fixture
def shares(database: Database) -> ShareStore:
    return ShareStore(database=database, clock=HandClock())


async def share(shares: ShareStore, seeded: Seeded, message: str = "") -> str:
    made = await shares.create(
        user_id=seeded.user, conversation_id=seeded.id, message_id=seeded.ids[message] if message else ""
    )
    return made.token


async def contents(shares: ShareStore, token: str, *, limit: int = 100) -> list[str]:
    found: list[str] = []
    after: int | None = 0
    while after is not None:
        page = await shares.read(token=token, limit=limit, after=after)
        assert len(page.messages) == limit or page.next_after is None
        found += [message.content for message in page.messages]
        after = page.next_after
    return [text.removeprefix("text of ") for text in found]


@pytest.mark.parametrize(
    ("message", "expected"),
    [("a1", "q1 a1"), ("a2b", "q1 a1 q2 a2b"), ("a3b", "q1 a1 q2 a2b q3b a3b"), ("", "q1 a1 q2 a2b q3b a3b")],
)
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_a_link_shows_the_way_to_the_message_and_nothing_else(
    database: Database, shares: ShareStore, message: str, expected: str, limit: int
) -> None:
    seeded = await seed(database, TREE)
    assert await contents(shares, await share(shares, seeded, message), limit=limit) == expected.split()


async def test_messages_that_come_later_do_not_show(database: Database, shares: ShareStore) -> None:
    seeded = await seed(database, chain("q1", "a1"))
    token = await share(shares, seeded)
    await database.statement(
        "INSERT INTO conversation.messages (conversation_id, sequence, id, parent_id, role, content, status,"
        " generation_id, created_at, user_id, branch, depth) SELECT conversation_id, 3, gen_random_uuid(), id, 'user',"
        " 'later', 'completed', gen_random_uuid(), now(), user_id, 0, 3 FROM conversation.messages WHERE sequence = 2"
    )
    assert await contents(shares, token) == ["q1", "a1"]


async def test_what_was_not_said_does_not_show(database: Database, shares: ShareStore) -> None:
    hidden = [{"status": "blocked"}, {"status": "failed"}, {"status": "completed", "content": ""}]
    nodes = chain("q0", "a0")
    for number, fields in enumerate(hidden * 30, 1):
        nodes.append(Node(f"a{number}", f"a{number - 1}", fields))
    nodes += [Node("stopped", "a90", {"status": "stopped"}), *chain("q2", after="stopped")]
    seeded = await seed(database, nodes)
    token = await share(shares, seeded)
    for limit in (1, 2, 100):
        assert await contents(shares, token, limit=limit) == ["q0", "a0", "stopped", "q2"]
    only_hidden = await seed(database, [Node("q1", "", {"status": "blocked"})])
    with pytest.raises(DomainError) as refused:
        await share(shares, only_hidden)
    assert refused.value.reason is Reason.MESSAGE_NOT_FOUND


async def test_a_call_does_not_look_for_ever(
    database: Database, shares: ShareStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share_store, "MOST_SCANNED", 3)
    nodes = chain("q0", "a0")
    nodes += [Node(f"a{number}", f"a{number - 1}", {"status": "failed"}) for number in range(1, 9)]
    token = await share(shares, await seed(database, [*nodes, *chain("q1", after="a8")]))
    pages, after = [], -(10**18)
    while True:
        page = await shares.read(token=token, limit=10, after=after)
        pages.append([message.content.removeprefix("text of ") for message in page.messages])
        if page.next_after is None:
            break
        after = page.next_after
    assert pages == [["q0", "a0"], [], [], ["q1"]]
    assert await share(shares, await seed(database, [Node("a0", "", {"status": "failed"}), *chain("q1", after="a0")]))


async def test_the_title_stays_as_it_was(database: Database, shares: ShareStore) -> None:
    seeded = await seed(database, chain("q1", "a1"), title="then")
    token = await share(shares, seeded)
    await database.statement("UPDATE conversation.conversations SET title = 'now'")
    assert (await shares.read(token=token, limit=1, after=0)).title == "then"
    [listed] = await shares.list(user_id="alice", conversation_id="", limit=10, before=None)
    assert listed.title == "then"


async def test_a_revoked_link_leads_nowhere(database: Database, shares: ShareStore) -> None:
    seeded, other = await seed(database, TREE), await seed(database, TREE)
    first, second, third = [await share(shares, seeded) for _ in range(3)]
    elsewhere = await share(shares, other)
    assert len({first, second, third, elsewhere}) == 4
    with pytest.raises(DomainError) as refused:
        await shares.delete(user_id="bob", token=first)
    assert refused.value.reason is Reason.SHARE_NOT_FOUND
    assert await contents(shares, first)
    await shares.delete(user_id="alice", token=first)
    with pytest.raises(DomainError) as refused:
        await contents(shares, first)
    assert refused.value.reason is Reason.SHARE_NOT_FOUND
    assert first not in str(refused.value.metadata)
    assert await contents(shares, second)
    with pytest.raises(DomainError) as refused:
        await shares.delete_all(user_id="bob", conversation_id=seeded.id)
    assert refused.value.reason is Reason.CONVERSATION_NOT_FOUND
    await shares.delete_all(user_id="alice", conversation_id=seeded.id)
    for token in (second, third):
        with pytest.raises(DomainError):
            await contents(shares, token)
    assert await contents(shares, elsewhere)


async def test_a_deleted_conversation_shows_to_nobody(database: Database, shares: ShareStore) -> None:
    seeded = await seed(database, TREE)
    token = await share(shares, seeded)
    await database.statement("UPDATE conversation.conversations SET deleted_at = now()")
    with pytest.raises(DomainError) as refused:
        await contents(shares, token)
    assert refused.value.reason is Reason.SHARE_NOT_FOUND
    assert await shares.list(user_id="alice", conversation_id="", limit=10, before=None) == []
    await database.statement("UPDATE conversation.conversations SET deleted_at = NULL")
    assert await contents(shares, token)
    await database.statement("DELETE FROM conversation.conversations")
    with pytest.raises(DomainError):
        await contents(shares, token)


async def test_links_are_listed_newest_first(database: Database, shares: ShareStore) -> None:
    seeded, other = await seed(database, TREE), await seed(database, TREE)
    tokens = [await share(shares, seeded if n % 2 else other) for n in range(7)]
    found: list[str] = []
    before = None
    while page := await shares.list(user_id="alice", conversation_id="", limit=3, before=before):
        found += [link.token for link in page]
        before = page[-1].created_at, page[-1].token
    assert found == tokens[::-1]
    here = await shares.list(user_id="alice", conversation_id=seeded.id, limit=10, before=None)
    assert [link.token for link in here] == tokens[1::2][::-1]
    assert await shares.list(user_id="bob", conversation_id="", limit=3, before=None) == []


async def test_what_cannot_be_shared(database: Database, shares: ShareStore) -> None:
    writing = await seed(database, [*chain("q1"), Node("a1", "q1", {"status": "in_progress", "content": ""})])
    empty = await seed(database, [])
    for user, conversation_id, message_id, reason in (
        ("alice", writing.id, writing.ids["a1"], Reason.CONVERSATION_BUSY),
        ("alice", empty.id, "", Reason.MESSAGE_NOT_FOUND),
        ("alice", empty.id, writing.ids["q1"], Reason.MESSAGE_NOT_FOUND),
        ("bob", writing.id, writing.ids["q1"], Reason.CONVERSATION_NOT_FOUND),
        ("alice", str(uuid.uuid4()), "", Reason.CONVERSATION_NOT_FOUND),
    ):
        with pytest.raises(DomainError) as refused:
            await shares.create(user_id=user, conversation_id=conversation_id, message_id=message_id)
        assert refused.value.reason is reason
    assert await shares.list(user_id="alice", conversation_id="", limit=3, before=None) == []
