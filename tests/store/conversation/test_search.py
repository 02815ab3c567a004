"""Search on a real database."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.conversation import search_store
from services.conversation.chat_model import Role
from services.conversation.model import SearchHit
from services.conversation.search_query import WORD
from services.conversation.search_store import SearchStore
from services.conversation.store import ConversationStore
from services.runtime.database import Database
from services.runtime.errors import Reason
from tests.store.conversation.chats import refused
from tests.store.conversation.seeding import START, HandClock, Node, Seeded, chain, conversation_database, seed
from tests.store.conversation.test_message_cost import CountingDatabase


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with conversation_database(postgres_url) as opened:
        yield opened


@pytest.fixture
def search(database: Database) -> SearchStore:
    return SearchStore(database=database)


@pytest.fixture
def store(database: Database) -> ConversationStore:
    return ConversationStore(database=database, clock=HandClock())


async def hits(search: SearchStore, query: str, **asked: Any) -> list[SearchHit]:
    nothing = {"user_id": "alice", "model": "", "start": None, "end": None, "limit": 100, "before": None}
    return list(await search.search(query=query, **{**nothing, **asked}))


def sign(user: str) -> str:
    """What the words of a user open with in the index."""
    return hashlib.md5(user.encode(), usedforsecurity=False).hexdigest()[:8]


async def found(search: SearchStore, query: str, **asked: Any) -> list[str]:
    """What was hit, by snippet; newest first."""
    return [hit.snippet for hit in await hits(search, query, **asked)]


def saying(*texts: str, **fields: Any) -> list[Node]:
    """Questions and answers in turn."""
    names = [f"{'a' if place % 2 else 'q'}{place}" for place in range(len(texts))]
    return [
        Node(node.name, node.parent, {"content": text, **fields})
        for node, text in zip(chain(*names), texts, strict=True)
    ]


async def test_all_words_must_be_in_one_text_in_any_case(database: Database, search: SearchStore) -> None:
    await seed(database, saying("The quick fox", "a QUICK dog", "the dog"), title="lazy")
    assert await found(search, "quick") == ["a QUICK dog", "The quick fox"]
    assert await found(search, "dog quick") == ["a QUICK dog"]
    assert await found(search, "fox dog") == []
    assert await found(search, "LAZY") == ["lazy"]
    assert await found(search, "lazy dog") == []


async def test_the_last_word_may_be_a_beginning(database: Database, search: SearchStore) -> None:
    await seed(database, saying("New York", "Newer yorkshire", "yor"))
    assert await found(search, "new yor") == ["New York"]
    assert await found(search, "yor") == ["yor", "Newer yorkshire", "New York"]
    assert await found(search, "york") == ["Newer yorkshire", "New York"]


async def test_a_hit_says_where_and_what(database: Database, search: SearchStore) -> None:
    seeded = await seed(database, saying("one apple", "two apples"), title="apple pie")
    answer, question, title = await hits(search, "apple")
    assert [hit.conversation.id for hit in (answer, question, title)] == [seeded.id] * 3
    assert [hit.message_id for hit in (answer, question, title)] == [seeded.ids["a1"], seeded.ids["q0"], ""]
    assert [hit.role for hit in (answer, question, title)] == [Role.ASSISTANT, Role.USER, None]
    assert title.created_at == START
    assert (answer.snippet, answer.highlights) == ("two apples", ((4, 10),))
    assert (title.snippet, title.highlights) == ("apple pie", ((0, 5),))
    assert title.conversation.title == "apple pie"


async def test_what_is_not_to_be_found(database: Database, search: SearchStore, store: ConversationStore) -> None:
    for status in ("in_progress", "failed", "blocked"):
        await seed(database, saying("needle", "needle", status=status))
    await seed(database, saying("needle"), user="bob", title="needle")
    deleted = await seed(database, saying("needle"), title="needle")
    await store.delete(user_id="alice", conversation_id=deleted.id)
    assert await found(search, "needle") == []
    await store.undelete(user_id="alice", conversation_id=deleted.id)
    assert len(await found(search, "needle")) == 2
    await store.update(
        user_id="alice", conversation_id=deleted.id, title=None, model=None, system_prompt=None, archived=True
    )
    await seed(database, saying("?", "needle", status="stopped"))
    assert len(await found(search, "needle")) == 3


async def test_who_writes_the_sign_of_another_user_is_not_found_by_them(
    database: Database, search: SearchStore
) -> None:
    other = sign("alice")
    await seed(database, saying(f"{other}needle {other} needle"), user="bob", title=f"{other}needle")
    assert await found(search, "needle") == []
    assert len(await found(search, "needle", user_id="bob")) == 1


async def test_users_with_the_same_sign_do_not_find_each_others(database: Database, search: SearchStore) -> None:
    signs: dict[str, str] = {}
    first, second = next(
        (signs[sign(user)], user) for user in map(str, itertools.count()) if signs.setdefault(sign(user), user) != user
    )
    for user in (first, second):
        await seed(database, saying(f"needle of {user}"), user=user, title=f"needle {user}")
    for user in (first, second):
        assert await found(search, "needle", user_id=user) == [f"needle of {user}", f"needle {user}"]


async def test_the_sign_of_the_user_is_no_word(database: Database, search: SearchStore) -> None:
    beginning = sign("alice")[0]
    await seed(database, saying("?", f"{beginning} needle", f"{beginning}123"), title="under")
    assert await found(search, beginning) == [f"{beginning}123", f"{beginning} needle"]
    for length in range(2, 9):
        assert await found(search, sign("alice")[:length]) == []


async def test_filters(database: Database, search: SearchStore) -> None:
    tree = saying("needle", "needle")
    tree[1] = Node("a1", "q0", {"content": "needle", "model": "large"})
    await seed(database, tree, title="needle", created_at=START)

    def when(hit: SearchHit) -> int:
        return int((hit.created_at - START).total_seconds())

    assert [when(hit) for hit in await hits(search, "needle")] == [2, 1, 0]
    assert [when(hit) for hit in await hits(search, "needle", model="large")] == [2]
    assert await hits(search, "needle", model="small") == []
    second = START + timedelta(seconds=1)
    assert [when(hit) for hit in await hits(search, "needle", start=second)] == [2, 1]
    assert [when(hit) for hit in await hits(search, "needle", end=second)] == [0]
    assert [when(hit) for hit in await hits(search, "needle", start=second, end=second)] == []


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("newest", [0, 3, 1000])
async def test_pages(
    database: Database,
    search: SearchStore,
    store: ConversationStore,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    newest: int,
) -> None:
    # All by the index of words; some by it; all by looking through the newest.
    monkeypatch.setattr(search_store, "NEWEST", newest)
    # Titles and messages of many conversations, several at the same time.
    for number in range(4):
        await seed(
            database, saying("needle", "x", "needle"), title="needle", created_at=START + timedelta(seconds=number)
        )
    gone = await seed(database, saying("needle", "x", "needle"), title="needle")
    await store.delete(user_id="alice", conversation_id=gone.id)
    whole = await hits(search, "needle")
    assert len(whole) == 12
    assert [hit.created_at for hit in whole] == sorted((hit.created_at for hit in whole), reverse=True)
    read: list[SearchHit] = []
    before: tuple[datetime, str] | None = None
    while page := await hits(search, "needle", limit=size, before=before):
        assert len(page) <= size
        read += page
        before = (page[-1].created_at, page[-1].message_id or page[-1].conversation.id)
    assert read == whole


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("don't", "I don't know"),
        ("os.path.join", "call os.path.join here"),
        ("os.path.jo", "call os.path.join here"),
        ("join", "call os.path.join here"),
        ("path jo", "call os.path.join here"),
        ("b", "either a/b or c"),
        ("said", "“Said”—he"),
        ("two", "one…two"),
        ("party", "🎉party🎉"),
        ("שלום", "הוא אמר: „שלום”."),
        ("مرحبا", "قال: مرحبا، وذهب"),
        ("snake_ca", "a snake_case name"),
        ("well-kn", "a well-known name"),
        ("user@example.org", "write to user@example.org today"),
        ("https://example.org/a-b?c=1", "see https://example.org/a-b?c=1"),
        ("3.14", "pi is 3.14"),
        ("c++ code", "C++ code"),
        ('\'quoted\\ | & ! ( ) <-> :* "words"', "quoted words"),
        ("привет", "ПРИВЕТ, мир"),
        ("École", "une école"),
        ("ünder", "Ünder"),
        ("हिन्दी", "यह हिन्दी है"),
        ("你好", "你好，世界"),
        ("++ needle ²", "a needle"),
    ],
)
async def test_words_of_all_kinds(database: Database, search: SearchStore, query: str, text: str) -> None:
    await seed(database, saying(text, "something else"))
    [hit] = await hits(search, query)
    assert hit.snippet == text
    assert hit.highlights


async def test_a_query_without_words_is_refused(search: SearchStore) -> None:
    error = await refused(Reason.INVALID_FIELD, hits(search, " ... ' & ! "))
    assert [violation.field for violation in error.fields] == ["query"]


async def test_the_longest_words_and_texts(database: Database, search: SearchStore) -> None:
    seeded: Seeded = await seed(
        database, saying("é" * 100_000, "\U00020000-" * 50_000, " ".join(map(str, range(18_000))))
    )
    assert await found(search, "é" * 256) == []
    [hit] = await hits(search, "17999")
    assert hit.message_id == seeded.ids["q2"]
    assert hit.highlights


ODD = {
    "one long word": "x" * 400_000,
    "many words": " ".join(f"w{number:09}" for number in range(100_000)),
    "the most that many short words can take": " ".join(f"{chr(0x20000 + n)}" for n in range(40_000)) * 3,
    "words as long as can be": " ".join(f"{chr(0x20000 + n)}" * 246 for n in range(1_600)),
    "words that are longer": " ".join(f"{chr(0x20000 + n)}" * 247 for n in range(1_600)),
    "quotes and backslashes": "'\\:*&|!<->()" * 10_000,
    "a quote": "'",
    "what means something to the database": "'a':1A b:2 c:99999 'd' \\'e\\\\ %s {} \\1 \\0 $1 [^ ]{3}",
    "nothing": "",
    "spaces": " \n\t \u00a0\u2028\u3000 ",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈é́́" * 5_000,
    "right to left": "\u202eשָׁלוֹם \u2067مَرْحَبًا\u2069 " * 5_000,
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
async def test_whatever_is_written_is_stored_and_hides_nothing_else(
    database: Database, search: SearchStore, text: str
) -> None:
    await seed(database, saying(text, f"needle {text}", f"{text} x"), title=text)
    assert len(await found(search, "needle")) == 1


async def test_bytes_of_any_kind_are_stored(database: Database, search: SearchStore) -> None:
    chance = random.Random(7)
    texts = []
    for _ in range(60):
        top = chance.choice((0x80, 0x250, 0x3100, 0xD800, 0x20000))
        texts.append("".join(chr(chance.randrange(1, top)) for _ in range(chance.randrange(2_000))))
    clean = [text.encode("utf-8", "ignore").decode() for text in texts]
    await seed(database, saying(*(f"needle {text}" for text in clean)))
    assert len(await found(search, "needle")) == 60
    # Each word of them is found by what it is.
    for text in clean[:20]:
        for word in [word for word in WORD.findall(text) if word.isalnum()][:3]:
            assert await found(search, word)


async def test_a_search_costs_what_it_finds_and_not_what_is_there(
    postgres_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest, there = 200, 8_000
    monkeypatch.setattr(search_store, "NEWEST", newest)
    for user, say in (
        (
            "alice",
            "CASE WHEN n %% 2 = 0 THEN 'common ' ELSE '' END || CASE WHEN n = 77 THEN 'rare' ELSE 'word' || n END",
        ),
        ("bob", "'common rare unheard'"),
    ):
        seeded = await seed(database, [], user=user)
        await database.statement(
            "INSERT INTO conversation.messages (conversation_id, user_id, sequence, id, role, content, status,"
            " generation_id, created_at, branch, depth) SELECT %(id)s::UUID, %(user)s, n, gen_random_uuid(), 'user',"
            f" {say}, 'completed', gen_random_uuid(), now() + n * INTERVAL '1 second', 0, n"
            " FROM generate_series(1, %(there)s::INT8) AS n",
            {"id": seeded.id, "user": user, "there": there},
        )
    await database.statement("VACUUM ANALYZE conversation.messages")
    async with CountingDatabase(postgres_url) as counting:
        search = SearchStore(database=counting)
        await counting.statement("SELECT count(*) FROM conversation.messages")
        assert counting.read >= 2 * there  # So a query that reads all is noticed.
        for query, expected in (
            ("common", 20),
            ("rare", 1),
            ("rar", 1),
            ("word7999", 1),
            ("unheard", 0),
            ("word7 rar", 0),
        ):
            counting.read = 0
            assert len(await hits(search, query, limit=20)) == expected
            # The newest, and each hit with its conversation.
            assert counting.read <= newest + 5 * expected + 10, query
