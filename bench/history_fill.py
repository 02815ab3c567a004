"""Histories of any length, written straight into the tables, for nobody chats a million times to be measured."""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import sql

VOCABULARY = 20_000
COMMON_RANK = 10
"""Of the word that is searched as a common one: about a third of the messages have it."""
RARE = "zyzzyva"
RARE_TIMES = 20
"""How many messages of a history have the rare word, whatever its length."""
MODELS = ("fast", "steady")
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_STEP = timedelta(seconds=20)
"""Between two messages; a million of them are eight months."""
_SLOW_INDEXES = ("messages_search", "messages_by_parent", "messages_by_place")
_SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "is", "on", "ul")]


@dataclass(frozen=True, slots=True)
class History:
    """The messages of one user, spread evenly over conversations; each message follows the one before."""

    user: str
    conversations: Sequence[str]
    messages: int

    @property
    def per_conversation(self) -> int:
        """How many messages a conversation has."""
        return self.messages // len(self.conversations)


def vocabulary() -> list[str]:
    """Words, the most frequent first."""
    made = ("".join(parts) for length in (2, 3) for parts in itertools.product(_SYLLABLES, repeat=length))
    words = list(itertools.islice(dict.fromkeys(made), 60_000))
    random.Random(0).shuffle(words)
    return words[:VOCABULARY]


def time_of(message: int) -> datetime:
    """When a user wrote their so-manieth message."""
    return _EPOCH + message * _STEP


def message_id(user: str, number: int) -> uuid.UUID:
    """The id of a user's so-manieth message."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{user} {number}")


def fill(url: str, *, messages: int, conversations: int, seed: int) -> History:
    """Write a history of a new user."""
    chance = random.Random(f"{seed} {messages}")
    user = str(uuid.uuid4())
    history = History(user, [str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(conversations)], messages)
    words = vocabulary()
    with psycopg.connect(url) as connection:
        # The rows are right; the checks of the foreign keys would be half of the time.
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET maintenance_work_mem = '1GB'")
        definitions = _drop_indexes(connection)
        with connection.cursor() as cursor:
            with cursor.copy(_COPY_CONVERSATIONS) as copy:
                for row in _conversations(history, words, chance):
                    copy.write_row(row)
            with cursor.copy(_COPY_MESSAGES) as copy:
                for row in _messages(history, words, chance):
                    copy.write_row(row)
        for definition in definitions:
            connection.execute(sql.SQL(definition))
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE conversation.messages")
        connection.execute("VACUUM ANALYZE conversation.conversations")
    return history


def remove_copies(url: str, history: History) -> None:
    """Remove what was branched off, so that the history is as long as it was."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "DELETE FROM conversation.conversations WHERE user_id = %s AND source_conversation_id IS NOT NULL",
            [history.user],
        )


def _drop_indexes(connection: psycopg.Connection[tuple[str, ...]]) -> list[str]:
    """Remove what is slow to keep up to date row by row. Returns how it is made again."""
    rows = connection.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'conversation' AND indexname = ANY(%s)",
        [list(_SLOW_INDEXES)],
    ).fetchall()
    for name, _ in rows:
        connection.execute(sql.SQL("DROP INDEX conversation.{}").format(sql.Identifier(name)))
    return [definition for _, definition in rows]


def _conversations(history: History, words: Sequence[str], chance: random.Random) -> Iterator[Sequence[object]]:
    depth = history.per_conversation
    for index, id_ in enumerate(history.conversations):
        last = (index + 1) * depth - 1
        title = " ".join(chance.choices(words, k=4))
        yield (
            id_, history.user, title, MODELS[0], "", depth, message_id(history.user, last), 0, depth,
            time_of(index * depth), time_of(last),
        )  # fmt: skip


def _messages(history: History, words: Sequence[str], chance: random.Random) -> Iterator[Sequence[object]]:
    weights = list(itertools.accumulate(1 / rank for rank in range(1, len(words) + 1)))
    rare_each = max(1, history.messages // RARE_TIMES)
    parent: uuid.UUID | None = None
    generation = uuid.UUID(int=0)
    for number in range(history.messages):
        index, place = divmod(number, history.per_conversation)
        answer = place % 2
        if not place:
            parent = None
        if not answer:
            generation = uuid.UUID(int=chance.getrandbits(128))
        content = " ".join(chance.choices(words, cum_weights=weights, k=chance.randint(20, 60)))
        if number % rare_each == rare_each // 2:
            content += f" {RARE}"
        id_ = message_id(history.user, number)
        yield (
            history.conversations[index], history.user, place + 1, id_, parent, ("user", "assistant")[answer], content,
            "completed", generation, MODELS[chance.randrange(2)] if answer else "", "stop" if answer else "",
            20 if answer else None, 50 if answer else None, 0 if answer else None, time_of(number), 0, place + 1,
        )  # fmt: skip
        parent = id_


_COPY_CONVERSATIONS = """
COPY conversation.conversations (id, user_id, title, model, system_prompt, last_sequence, leaf_message_id, leaf_branch,
    leaf_depth, created_at, updated_at) FROM STDIN
"""
_COPY_MESSAGES = """
COPY conversation.messages (conversation_id, user_id, sequence, id, parent_id, role, content, status, generation_id,
    model, finish_reason, prompt_tokens, completion_tokens, cached_tokens, created_at, branch, depth) FROM STDIN
"""
