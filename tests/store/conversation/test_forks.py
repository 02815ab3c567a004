"""Copies of branches on a real database."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.conversation.fork_store import ForkStore
from services.conversation.model import Conversation
from services.conversation.share_store import ShareStore
from services.runtime.database import Database
from services.runtime.errors import DomainError, Reason
from tests.store.conversation.seeding import HandClock, Node, Seeded, chain, conversation_database, seed

# q1 a1 q2 a2 q3 a3, with another answer to q2 on which q3b and a3b follow, and another first question.
TREE = [
    *chain("q1", "a1", "q2", "a2", "q3", "a3"),
    *chain("a2b", "q3b", "a3b", after="q2"),
    *chain("q1c", "a1c"),
]


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with conversation_database(postgres_url) as opened:
        yield opened


@pytest.fixture
def forks(database: Database) -> ForkStore:
    return ForkStore(database=database, clock=HandClock())


async def fork(forks: ForkStore, seeded: Seeded, message: str = "", **fields: Any) -> Conversation:
    asked = {"user_id": seeded.user, "conversation_id": seeded.id, "title": "", "request_id": ""} | fields
    return await forks.fork(message_id=seeded.ids[message] if message else "", **asked)


async def rows(database: Database, conversation_id: str) -> list[tuple[Any, ...]]:
    return await database.statement(
        "SELECT id, parent_id, sequence, depth, branch, content, user_id, route IS NULL, prompt_tokens, model, status,"
        " generation_id, created_at, error FROM conversation.messages WHERE conversation_id = %(id)s ORDER BY sequence",
        {"id": conversation_id},
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("a3", "q1 a1 q2 a2 q3 a3"),
        ("q2", "q1 a1 q2"),
        ("a3b", "q1 a1 q2 a2b q3b a3b"),
        ("a2b", "q1 a1 q2 a2b"),
        ("q1c", "q1c"),
        ("", "q1c a1c"),
    ],
)
async def test_a_fork_has_the_way_to_the_message(
    database: Database, forks: ForkStore, message: str, expected: str
) -> None:
    seeded = await seed(database, TREE)
    names = expected.split()
    made = await fork(forks, seeded, message)
    found = await rows(database, made.id)
    assert [row[5] for row in found] == [f"text of {name}" for name in names]
    assert [str(row[1] or "") for row in found] == ["", *(str(row[0]) for row in found[:-1])]
    assert [row[2:5] for row in found] == [(n, n, 0) for n in range(1, len(names) + 1)]
    assert not {str(row[0]) for row in found} & set(seeded.ids.values())
    assert (made.message_count, made.current_message_id) == (len(names), str(found[-1][0]))
    assert (made.title, made.model, made.system_prompt) == ("a title", "tiny", "be nice")
    assert made.source_conversation_id == seeded.id
    [state] = await database.statement(
        "SELECT leaf_branch, leaf_depth, next_branch FROM conversation.conversations WHERE id = %(id)s", {"id": made.id}
    )
    assert state == (0, len(names), 1)


async def test_a_fork_keeps_what_a_message_is(database: Database, forks: ForkStore) -> None:
    seeded = await seed(database, [*chain("q1"), Node("a1", "q1", {"status": "failed"})])
    made = await fork(forks, seeded, title="mine")
    before, after = await rows(database, seeded.id), await rows(database, made.id)
    assert [row[5:] for row in after] == [row[5:] for row in before]
    assert made.title == "mine"


async def test_the_fork_outlives_the_original(database: Database, forks: ForkStore) -> None:
    seeded = await seed(database, TREE)
    made = await fork(forks, seeded, "a3b")
    before = await rows(database, made.id)
    await database.statement("DELETE FROM conversation.conversations WHERE id = %(id)s", {"id": seeded.id})
    assert await rows(database, seeded.id) == []
    assert await rows(database, made.id) == before
    assert len(before) == 6


async def test_a_repeated_request_makes_one_copy(database: Database, forks: ForkStore) -> None:
    seeded = await seed(database, TREE)
    request_id = str(uuid.uuid4())
    made = await asyncio.gather(*(fork(forks, seeded, "a2", request_id=request_id) for _ in range(8)))
    assert len({conversation.id for conversation in made}) == 1
    assert len(await rows(database, made[0].id)) == 4
    for other in ({"message": "a1"}, {"message": "a2", "title": "x"}):
        with pytest.raises(DomainError) as refused:
            await fork(forks, seeded, request_id=request_id, **other)
        assert refused.value.reason is Reason.REQUEST_ID_REUSED
    await database.statement("DELETE FROM conversation.conversations WHERE id = %(id)s", {"id": seeded.id})
    assert (await fork(forks, seeded, "a2", request_id=request_id)).id == made[0].id


async def test_nobody_copies_what_is_not_theirs(database: Database, forks: ForkStore) -> None:
    seeded = await seed(database, TREE)
    other = await seed(database, chain("q1"))
    empty = await seed(database, [])
    unknown = str(uuid.uuid4())
    for fields, reason in (
        ({"user_id": "bob"}, Reason.CONVERSATION_NOT_FOUND),
        ({"conversation_id": unknown}, Reason.CONVERSATION_NOT_FOUND),
        ({"conversation_id": "x"}, Reason.CONVERSATION_NOT_FOUND),
        ({"message_id": unknown}, Reason.MESSAGE_NOT_FOUND),
        ({"message_id": "x"}, Reason.MESSAGE_NOT_FOUND),
        ({"message_id": other.ids["q1"]}, Reason.MESSAGE_NOT_FOUND),
        ({"conversation_id": empty.id, "message_id": ""}, Reason.MESSAGE_NOT_FOUND),
    ):
        asked = {"user_id": "alice", "conversation_id": seeded.id, "message_id": seeded.ids["q1"]} | fields
        with pytest.raises(DomainError) as refused:
            await forks.fork(**asked, title="", request_id="")
        assert refused.value.reason is reason, fields
    await database.statement(
        "UPDATE conversation.conversations SET deleted_at = now() WHERE id = %(id)s", {"id": seeded.id}
    )
    with pytest.raises(DomainError) as refused:
        await fork(forks, seeded, "q1")
    assert refused.value.reason is Reason.CONVERSATION_NOT_FOUND


async def test_an_answer_that_is_being_written_is_not_copied(database: Database, forks: ForkStore) -> None:
    seeded = await seed(database, [*chain("q1"), Node("a1", "q1", {"status": "in_progress", "content": ""})])
    with pytest.raises(DomainError) as refused:
        await fork(forks, seeded, "a1")
    assert refused.value.reason is Reason.CONVERSATION_BUSY
    [answer] = (await rows(database, seeded.id))[1:]
    assert refused.value.metadata["generation_id"] == str(answer[11])
    assert (await fork(forks, seeded, "q1")).message_count == 1


async def test_a_shared_conversation_goes_on_as_a_copy(database: Database, forks: ForkStore) -> None:
    shares = ShareStore(database=database, clock=HandClock())
    hidden = {"status": "blocked", "content": "not for others"}
    nodes = [*chain("q1", "a1"), Node("q2", "a1", hidden), *chain("a2", "q3", "a3", after="q2")]
    seeded = await seed(database, nodes, title="theirs")
    share = await shares.create(user_id="alice", conversation_id=seeded.id, message_id=seeded.ids["q3"])
    await database.statement(
        "UPDATE conversation.conversations SET title = 'renamed' WHERE id = %(id)s", {"id": seeded.id}
    )
    request_id = str(uuid.uuid4())
    made = await forks.continue_shared(user_id="bob", token=share.token, request_id=request_id)
    found = await rows(database, made.id)
    assert [row[5] for row in found] == ["text of q1", "text of a1", "text of a2", "text of q3"]
    assert [row[2:5] for row in found] == [(1, 1, 0), (2, 2, 0), (3, 3, 0), (4, 4, 0)]
    assert [str(row[1] or "") for row in found] == ["", *(str(row[0]) for row in found[:-1])]
    assert {row[6] for row in found} == {"bob"}
    assert (made.title, made.system_prompt, made.model, made.source_conversation_id) == ("theirs", "", "", "")
    assert (made.message_count, made.current_message_id) == (4, str(found[-1][0]))
    # Nothing by which the owner could be known, and nothing of how it was answered.
    theirs = await rows(database, seeded.id)
    assert not {row[0] for row in found} & {row[0] for row in theirs}
    assert not {row[11] for row in found} & {row[11] for row in theirs}
    assert all(row[7] and row[8] is None for row in found)

    await shares.delete(user_id="alice", token=share.token)
    again = await forks.continue_shared(user_id="bob", token=share.token, request_id=request_id)
    assert again.id == made.id
    with pytest.raises(DomainError) as refused:
        await forks.continue_shared(user_id="bob", token=share.token, request_id="")
    assert refused.value.reason is Reason.SHARE_NOT_FOUND
