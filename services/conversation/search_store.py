"""Full-text search over the titles and messages of a user."""

from __future__ import annotations

import heapq
import itertools
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

from services.conversation.chat_model import Role
from services.conversation.model import Conversation, SearchHit
from services.conversation.rows import CONVERSATION, conversation_from
from services.conversation.search_query import SearchQuery, parse_query
from services.conversation.snippets import snippet
from services.runtime.database import Database, Row

NEWEST = 2_000
"""How many of a user's messages, or titles, are looked through before the index of words is asked."""

_CONVERSATION: LiteralString = ", ".join("c." + column.strip() for column in CONVERSATION.split(","))
_HAS_WORDS: LiteralString = "search @@ lower(%(query)s)::TSQUERY"


class _Texts(NamedTuple):
    """Where words are looked for, and how a page is made of what was `found`."""

    key: LiteralString
    of_user: LiteralString
    page: LiteralString


_MESSAGES = _Texts(
    key="conversation_id, sequence, id, created_at",
    of_user="conversation.messages WHERE user_id = %(user)s AND status IN ('completed', 'stopped')",
    page="""
), page AS (
    SELECT f.conversation_id, f.sequence FROM found AS f
    JOIN conversation.conversations AS c ON c.id = f.conversation_id
    WHERE c.deleted_at IS NULL
    ORDER BY f.created_at DESC, f.id DESC LIMIT %(limit)s
)
SELECT """
    + _CONVERSATION
    + """, m.id, m.role, m.created_at, m.content FROM page
JOIN conversation.messages AS m ON m.conversation_id = page.conversation_id AND m.sequence = page.sequence
JOIN conversation.conversations AS c ON c.id = page.conversation_id
ORDER BY m.created_at DESC, m.id DESC
""",
)
_TITLES = _Texts(
    key="id, created_at",
    of_user="conversation.conversations WHERE user_id = %(user)s AND deleted_at IS NULL",
    page="""
), page AS (
    SELECT f.id FROM found AS f ORDER BY f.created_at DESC, f.id DESC LIMIT %(limit)s
)
SELECT """
    + _CONVERSATION
    + """, NULL, NULL, c.created_at, c.title FROM page JOIN conversation.conversations AS c ON c.id = page.id
ORDER BY c.created_at DESC, c.id DESC
""",
)


class SearchStore:
    """Finds titles and messages by their words.

    A user may have a million messages. A common word is in many of them, and the newest are found by looking through
    the newest messages; a rare one is in few, and they are found by the index of words, which holds each word with a
    sign of its user. So neither search has much to read, whatever the user and the others have written. What is
    between is read by the index: at most the share of the user's messages that would not fill a page out of NEWEST,
    unless the word stopped being common.
    """

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def search(
        self,
        *,
        user_id: str,
        query: str,
        model: str,
        start: datetime | None,
        end: datetime | None,
        limit: int,
        before: tuple[datetime, str] | None,
    ) -> Sequence[SearchHit]:
        """Up to `limit` hits, newest first, that come after the position `before`: time and id of a hit.

        The id of a hit is that of its message, or of its conversation when the title was hit. Deleted conversations
        are left out, archived ones are not; so is what moderation blocked, and what is not complete.

        Args:
            user_id: Whose.
            query: Words, all of which must occur; the last may be the beginning of one.
            model: Only answers of this model, and no titles; empty for all.
            start: Only what was written then or later.
            end: Only what was written before.
            limit: Greatest number of hits.
            before: Where the page before has ended.

        Raises:
            DomainError: INVALID_FIELD, when the query has no word in it.
        """
        wanted = parse_query(query)
        parameters: dict[str, Any] = {
            "user": user_id,
            "query": wanted.of_user(user_id),
            "model": model,
            "start": start,
            "end": end,
            "limit": limit,
            "newest": NEWEST,
            "time": before[0] if before else None,
            "id": before[1] if before else None,
        }
        narrowed: LiteralString = (
            (" AND created_at >= %(start)s" if start else "")
            + (" AND created_at < %(end)s" if end else "")
            + (" AND (created_at, id) < (%(time)s, %(id)s)" if before else "")
        )
        found = await self._find(_MESSAGES, (" AND model = %(model)s" if model else "") + narrowed, parameters)
        titles = [] if model else await self._find(_TITLES, narrowed, parameters)
        newest_first = heapq.merge(found, titles, key=_position, reverse=True)
        return [_hit(row, wanted) for row in itertools.islice(newest_first, limit)]

    async def _find(self, texts: _Texts, narrowed: LiteralString, parameters: dict[str, Any]) -> list[Row]:
        asked = texts.of_user + narrowed
        newest = asked + " ORDER BY created_at DESC, id DESC LIMIT %(newest)s"
        rows = await self._database.statement(
            f"WITH found AS (SELECT {texts.key} FROM (SELECT {texts.key}, search FROM {newest}) AS newest"
            f" WHERE {_HAS_WORDS}{texts.page}",
            parameters,
        )
        if len(rows) == parameters["limit"]:
            return rows
        # Found before they are joined with anything: the index is read once, not for each conversation of the user.
        return await self._database.statement(
            f"WITH found AS MATERIALIZED (SELECT {texts.key} FROM {asked} AND {_HAS_WORDS}{texts.page}", parameters
        )


def _position(row: Row) -> tuple[datetime, uuid.UUID]:
    *_, message_id, _, created_at, _ = row
    return created_at, message_id or row[0]


def _hit(row: Row, query: SearchQuery) -> SearchHit:
    *_, message_id, role, created_at, text = row
    shown, highlights = snippet(text, query.matches)
    conversation: Conversation = conversation_from(row)
    return SearchHit(
        conversation=conversation,
        message_id=str(message_id or ""),
        role=Role(role) if role else None,
        created_at=created_at,
        snippet=shown,
        highlights=highlights,
    )
