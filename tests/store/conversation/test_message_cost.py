"""What it costs to read a stretch of a branch of a large tree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, LiteralString

import pytest

from services.conversation.turn_history import history_pages
from services.runtime.database import Database, Row
from tests.store.conversation.chats import Chat
from tests.store.conversation.seeding import conversation_database

# A conversation of `turns` turns, of which each `every`th is an edit: it stands on a branch of its own, and the old
# question on the branch before.
_GIVEN: LiteralString = "WITH given AS (SELECT %(id)s::UUID AS id, %(turns)s::INT8 AS turns, %(every)s::INT8 AS every)"
_MESSAGES: LiteralString = (
    "INSERT INTO conversation.messages (conversation_id, user_id, sequence, id, parent_id, role, content, status,"
    " generation_id, created_at, branch, depth) "
)
_SHOWN: LiteralString = (
    " SELECT given.id, 'alice', n, md5(n || given.id::TEXT)::UUID,"
    " CASE WHEN n > 1 THEN md5((n - 1) || given.id::TEXT)::UUID END,"
    " CASE WHEN n %% 2 = 1 THEN 'user' ELSE 'assistant' END, 'some words', 'completed', gen_random_uuid(), now(),"
    " (n - 1) / 2 / every, n FROM given, generate_series(1, 2 * turns) AS n"
)
_OLD_QUESTIONS: LiteralString = (
    " SELECT given.id, 'alice', 2 * turns + row_number() OVER (ORDER BY sequence), gen_random_uuid(), parent_id, role,"
    " 'old words', 'completed', gen_random_uuid(), now(), branch - 1, depth"
    " FROM given JOIN conversation.messages AS m ON m.conversation_id = given.id"
    " WHERE branch > 0 AND depth = branch * 2 * every + 1"
)
_BRANCHES: LiteralString = (
    " INSERT INTO conversation.branches SELECT given.id, b, ARRAY(SELECT generate_series(0, b)),"
    " ARRAY(SELECT generate_series(0, b) * 2 * every + 1) FROM given, generate_series(1, (turns - 1) / every) AS b"
)
_LEAF: LiteralString = (
    " UPDATE conversation.conversations AS c SET leaf_branch = (turns - 1) / every, leaf_depth = 2 * turns,"
    " next_branch = (turns - 1) / every + 1, leaf_message_id = md5((2 * turns) || given.id::TEXT)::UUID,"
    " last_sequence = (SELECT max(sequence) FROM conversation.messages AS m WHERE m.conversation_id = given.id)"
    " FROM given WHERE c.id = given.id"
)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with conversation_database(postgres_url) as opened:
        yield opened


async def grow(database: Database, *, turns: int, every: int) -> Chat:
    """A conversation of so many turns, of which each so many-th was edited."""
    chat = await Chat(database).create()
    given = {"id": chat.id, "turns": turns, "every": every}
    for query in (_MESSAGES + _GIVEN + _SHOWN, _MESSAGES + _GIVEN + _OLD_QUESTIONS, _GIVEN + _BRANCHES, _GIVEN + _LEAF):
        await database.statement(query, given)
    await database.statement(
        "INSERT INTO conversation.feedback SELECT conversation_id, id, 'up', '', '', now()"
        " FROM conversation.messages WHERE conversation_id = %(id)s AND role = 'assistant'",
        {"id": chat.id},
    )
    await database.statement("ANALYZE conversation.messages")
    await database.statement("ANALYZE conversation.feedback")
    return chat


class CountingDatabase(Database):
    """A database that counts the rows that its queries read."""

    read = 0

    async def statement(
        self, query: LiteralString, parameters: Mapping[str, Any] | None = None, *, timeout_s: float = 60.0
    ) -> list[Row]:
        plan = await super().statement("EXPLAIN (ANALYZE, FORMAT JSON) " + query, parameters)
        self.read += rows_read(plan[0][0][0]["Plan"])
        return await super().statement(query, parameters)


def rows_read(plan: Mapping[str, Any]) -> int:
    here = 0
    if "Relation Name" in plan:
        unwanted = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        here = round((plan["Actual Rows"] + unwanted) * plan["Actual Loops"])
    return here + sum(rows_read(child) for child in plan.get("Plans", []))


@pytest.mark.parametrize("every", [10, 10_000], ids=["many branches", "one branch"])
async def test_a_page_costs_the_page_and_not_the_tree(postgres_url: str, database: Database, every: int) -> None:
    turns = 8_000
    grown = await grow(database, turns=turns, every=every)
    async with CountingDatabase(postgres_url) as counting:
        chat = Chat(counting).adopt(grown.id)
        await counting.statement("SELECT count(*) FROM conversation.messages")
        assert counting.read >= 2 * turns  # So a query that reads all is noticed.
        for after, newest_first in ((None, False), (turns, False), (None, True), (turns, True)):
            counting.read = 0
            page = (
                await chat.messages.list_branch(
                    user_id="alice",
                    conversation_id=chat.id,
                    leaf_message_id="",
                    limit=50,
                    after=after,
                    newest_first=newest_first,
                )
            ).messages
            assert [m.depth for m in page] == depths(after, 2 * turns, newest_first=newest_first)
            # Each message, its siblings, its feedback, and the conversation with its way.
            assert counting.read <= 3 * 50 + 10
        turn = await grown.open()
        counting.read = 0
        messages, _ = await history_pages(chat.turns, turn)(50)
        assert len(messages) == 50
        assert counting.read <= 50
        await grown.turns.discard_turn(turn)


def depths(after: int | None, last: int, *, newest_first: bool) -> list[int]:
    """The depths of a page of 50."""
    if newest_first:
        high = last if after is None else after - 1
        return list(range(high, high - 50, -1))
    low = 1 if after is None else after + 1
    return list(range(low, low + 50))
