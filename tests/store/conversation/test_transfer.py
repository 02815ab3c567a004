"""Export and import on a real database."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from services.conversation.fork_store import ForkStore
from services.conversation.message_store import MessageStore
from services.conversation.transfer import exporter as exporter_module
from services.conversation.transfer import importer as importer_module
from services.conversation.transfer import transfer_store as transfer_store_module
from services.conversation.transfer.exporter import Exporter, ExportForm
from services.conversation.transfer.importer import Importer, ImportReport
from services.conversation.transfer.transfer_store import TransferStore
from services.runtime.database import Database
from services.runtime.errors import DomainError, Reason
from tests.store.conversation.seeding import START, HandClock, Node, Seeded, chain, conversation_database, seed

TREE = [
    *chain("q1", "a1", "q2", "a2", "q3", "a3"),
    *chain("a2b", "q3b", "a3b", after="q2"),
    *chain("q1c", "a1c"),
]
ERROR = {"code": "UNAVAILABLE", "reason": "ENGINE_FAILED", "message": "gone", "metadata": {"model": "tiny"}}
Json = dict[str, Any]


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with conversation_database(postgres_url) as opened:
        yield opened


@pytest.fixture
def exporter(database: Database) -> Exporter:
    return Exporter(store=TransferStore(database=database), clock=HandClock())


@pytest.fixture
def importer(database: Database) -> Importer:
    return Importer(store=TransferStore(database=database))


async def export(
    exporter: Exporter, *, user: str = "alice", conversation_id: str = "", form: ExportForm = ExportForm.JSON
) -> str:
    parts = exporter.export(user_id=user, conversation_id=conversation_id, form=form)
    return b"".join([part async for part in parts]).decode()


async def import_(importer: Importer, content: object, *, user: str = "alice", cut: int = 1000) -> ImportReport:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(data), cut):
            yield data[start : start + cut]

    return await importer.import_file(user_id=user, parts=parts())


def without_ids(exported: str) -> list[Json]:
    """The conversations by title, ids replaced by places."""
    conversations: list[Json] = json.loads(exported)["conversations"]
    for conversation in conversations:
        ids = {message["id"]: index for index, message in enumerate(conversation["messages"])}
        assert len(ids) == len(conversation["messages"])
        del conversation["id"]
        conversation["current_message_id"] = ids.get(conversation["current_message_id"])
        for message in conversation["messages"]:
            message["parent_id"] = ids.get(message["parent_id"])
            message["id"] = ids[message["id"]]
    return sorted(conversations, key=lambda conversation: str(conversation["title"]))


async def rate(database: Database, seeded: Seeded, name: str) -> None:
    await database.statement(
        "INSERT INTO conversation.feedback VALUES (%(c)s, %(m)s, 'down', 'style', 'too long', %(now)s)",
        {"c": seeded.id, "m": seeded.ids[name], "now": START},
    )


async def test_what_is_exported_can_be_imported_and_is_the_same(
    database: Database, exporter: Exporter, importer: Importer
) -> None:
    failed = {"status": "failed", "finish_reason": "error", "error": Jsonb(ERROR), "content": 'a "part" \\ \n ☃ 𝄞'}
    seeded = await seed(database, [*TREE, *chain("q4", after="a3"), Node("a4", "q4", failed)], leaf="a3b")
    await rate(database, seeded, "a3")
    await seed(database, [], title="empty")
    await seed(database, chain("q1"), title="of bob", user="bob")
    before = await export(exporter)
    assert len(json.loads(before)["conversations"]) == 2
    assert json.loads(before)["format"] == "chatmesh.conversations"

    report = await import_(importer, before.encode(), user="carol", cut=7)
    assert (report.imported, report.skipped, report.messages, report.problems) == (2, 0, 13, [])
    after = await export(exporter, user="carol")
    assert without_ids(after) == without_ids(before)
    assert not {c["id"] for c in json.loads(before)["conversations"]} & {
        c["id"] for c in json.loads(after)["conversations"]
    }
    # And in the place of what was deleted.
    await database.statement("DELETE FROM conversation.conversations WHERE user_id = 'alice'")
    assert (await import_(importer, before.encode())).imported == 2
    assert without_ids(await export(exporter)) == without_ids(before)


async def test_random_trees_survive_the_journey(
    database: Database, exporter: Exporter, importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_store_module, "_CHUNK_MESSAGES", 7)
    draw = random.Random(7)
    for number in range(12):
        names = [""]
        nodes = []
        for index in range(draw.choice((1, 5, 40))):
            # Mostly at the end, so that there are chains.
            parent = names[-1] if draw.random() < 0.7 else draw.choice(names)
            nodes.append(Node(f"{draw.choice('qa')}{index}", parent, {"content": "x" * draw.choice((1, 50, 3000))}))
            names.append(nodes[-1].name)
        await seed(database, nodes, leaf=draw.choice(names[1:]), title=f"tree {number}")
    before = await export(exporter)
    report = await import_(importer, before.encode(), user="bob")
    assert (report.imported, report.problems) == (12, [])
    assert without_ids(await export(exporter, user="bob")) == without_ids(before)
    # Branches lead where the parents say.
    store = MessageStore(database=database, clock=HandClock())
    for conversation in json.loads(await export(exporter, user="bob"))["conversations"]:
        parents = {message["id"]: message["parent_id"] for message in conversation["messages"]}
        for leaf in [*parents][-3:]:
            way = [leaf]
            while parents[way[-1]]:
                way.append(parents[way[-1]])
            listed = (
                await store.list_branch(
                    user_id="bob",
                    conversation_id=conversation["id"],
                    leaf_message_id=leaf,
                    limit=100,
                    after=None,
                    newest_first=True,
                )
            ).messages
            assert [message.id for message in listed] == way


@pytest.mark.parametrize("form", [ExportForm.JSON, ExportForm.MARKDOWN])
@pytest.mark.parametrize("window", [(1, 1), (3, 1_000_000), (500, 40), (500, 1_000_000)])
async def test_windows_change_nothing(
    database: Database,
    exporter: Exporter,
    monkeypatch: pytest.MonkeyPatch,
    form: ExportForm,
    window: tuple[int, int],
) -> None:
    # Each has its own time of creation, so that the order is the same each time.
    for number in range(5):
        await seed(database, TREE[: number * 3], created_at=START.replace(day=number + 1), leaf="a1" if number else "")
    await seed(database, TREE, created_at=START.replace(day=20), leaf="a3b")
    whole = await export(exporter, form=form)
    monkeypatch.setattr(exporter_module, "WINDOW_MESSAGES", window[0])
    monkeypatch.setattr(exporter_module, "PART_BYTES", 100)
    monkeypatch.setattr(transfer_store_module, "WINDOW_BYTES", window[1])
    monkeypatch.setattr(transfer_store_module, "CONVERSATIONS", 2)
    again = await export(exporter, form=form)
    assert _without_time(again) == _without_time(whole)
    assert len(whole) > 500


def _without_time(text: str) -> str:
    return "" if not text else text if not text.startswith("{") else json.dumps(json.loads(text) | {"exported_at": ""})


async def test_markdown_has_the_branch_that_is_shown(database: Database, exporter: Exporter) -> None:
    text = "# not a heading of ours\n\n* as *it* is\n"
    seeded = await seed(
        database,
        [
            *chain("q1", "a1"),
            Node("a1b", "q1", {"content": text}),
            *chain("q2", after="a1b"),
            Node("a2", "q2", {"status": "stopped"}),
        ],
        title="On\nlines",
    )
    await seed(database, [], title="", created_at=START.replace(year=2025))
    one = await export(exporter, conversation_id=seeded.id, form=ExportForm.MARKDOWN)
    assert one == (
        "# On lines\n\n2026-01-01 00:00 UTC\n\n"
        "## User\n\ntext of q1\n\n"
        f"## Assistant (tiny)\n\n{text}\n\n"
        "## User\n\ntext of q2\n\n"
        "## Assistant (tiny, stopped)\n\ntext of a2\n\n"
    )
    both = await export(exporter, form=ExportForm.MARKDOWN)
    assert both == one + "---\n\n# Untitled conversation\n\n2025-01-01 00:00 UTC\n\n"


async def test_nobody_exports_what_is_not_theirs(database: Database, exporter: Exporter) -> None:
    seeded = await seed(database, TREE)
    deleted = await seed(database, TREE)
    await database.statement(
        "UPDATE conversation.conversations SET deleted_at = now() WHERE id = %(id)s", {"id": deleted.id}
    )
    assert [c["id"] for c in json.loads(await export(exporter))["conversations"]] == [seeded.id]
    assert json.loads(await export(exporter, user="bob"))["conversations"] == []
    for user, id_ in (("bob", seeded.id), ("alice", deleted.id), ("alice", str(uuid.uuid4())), ("alice", "x")):
        with pytest.raises(DomainError) as refused:
            await export(exporter, user=user, conversation_id=id_)
        assert refused.value.reason is Reason.CONVERSATION_NOT_FOUND


async def test_what_is_there_is_left_as_it_is(database: Database, exporter: Exporter, importer: Importer) -> None:
    seeded = await seed(database, TREE)
    await seed(database, chain("q1"), user="bob")
    file = (await export(exporter)).encode()
    # It is still there as it was exported.
    report = await import_(importer, file)
    assert (report.imported, report.skipped) == (0, 1)
    assert (await import_(importer, file, user="bob")).imported == 1
    await database.statement("UPDATE conversation.conversations SET title = 'mine now' WHERE user_id = 'bob'")
    for deleted_at in (None, START):
        await database.statement(
            "UPDATE conversation.conversations SET deleted_at = %(time)s WHERE user_id = 'bob'", {"time": deleted_at}
        )
        report = await import_(importer, file, user="bob")
        assert (report.imported, report.skipped, report.messages) == (0, 1, 0)
    titles = await database.statement("SELECT title FROM conversation.conversations WHERE user_id = 'bob'")
    assert titles == [("mine now",), ("mine now",)]
    await database.statement("DELETE FROM conversation.conversations WHERE id <> %(id)s", {"id": seeded.id})
    report = await import_(importer, file, user="bob")
    assert (report.imported, report.skipped) == (1, 0)


def own(*conversations: object) -> Json:
    return {"format": "chatmesh.conversations", "version": 1, "conversations": list(conversations)}


def conversation(messages: Sequence[Mapping[str, Any]] = (), **fields: Any) -> Json:
    times = {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-02T00:00:00+02:00"}
    return {"id": str(uuid.uuid4()), "title": "t", "messages": [{**times, **m} for m in messages], **times, **fields}


def message(id_: str, parent: str = "", **fields: Any) -> Json:
    role = "user" if id_.startswith("q") else "assistant"
    return {"id": id_, "parent_id": parent, "role": role, "content": id_, "status": "completed", **fields}


async def test_a_broken_conversation_hurts_no_other(database: Database, exporter: Exporter, importer: Importer) -> None:
    good = conversation([message("q1"), message("a1", "q1")])
    rng = random.Random(1)
    words = " ".join(f"{rng.getrandbits(48):x}" for _ in range(999_000 // 14))
    report = await import_(
        importer,
        own(
            conversation([message("q1", "nowhere")], title="x" * 250),
            good,
            7,
            conversation([message("q1", content="x" * 1_000_001)]),
            good,
            conversation([message("q1", content=words)]),
            conversation([message("q1", content="nul \0 and half \ud83d of a pair")], title="\0"),
        ),
        cut=2**20,
    )
    assert (report.imported, report.skipped) == (3, 1), report
    assert [(problem.index, problem.title) for problem in report.problems] == [
        (0, "x" * 200),
        (2, ""),
        (3, "t"),
    ]
    contents = [m["content"] for c in json.loads(await export(exporter))["conversations"] for m in c["messages"]]
    assert sorted(contents) == sorted(["q1", "a1", words, "nul \ufffd and half \ufffd of a pair"])


async def test_files_that_are_none(importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (b"", b"hello", b"<html>", b'{"format": "other", "conversations": []}', b"[{]", b"[1, 2", b"[1] x"):
        with pytest.raises(DomainError) as refused:
            await import_(importer, content)
        assert refused.value.reason is Reason.INVALID_IMPORT, content
    monkeypatch.setattr(importer_module, "MAX_BYTES", 2**20)
    with pytest.raises(DomainError) as refused:
        await import_(importer, b"[" + b" " * 2**20 + b"]", cut=2**16)
    assert refused.value.reason is Reason.INVALID_IMPORT
    assert "1 MiB" in refused.value.message


async def test_only_so_many_files_are_held_at_once(importer: Importer) -> None:
    arrived = asyncio.Semaphore(0)
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        arrived.release()
        await go_on.wait()
        yield json.dumps(own(conversation())).encode()

    async def cut() -> AsyncIterator[bytes]:
        raise ConnectionError
        yield b""

    for _ in range(importer_module.MAX_AT_ONCE + 1):
        with pytest.raises(ConnectionError):
            await importer.import_file(user_id="alice", parts=cut())
    running = [
        asyncio.create_task(importer.import_file(user_id="alice", parts=slow()))
        for _ in range(importer_module.MAX_AT_ONCE)
    ]
    for _ in running:
        await arrived.acquire()
    with pytest.raises(DomainError) as refused:
        await import_(importer, own())
    assert refused.value.reason is Reason.OVERLOADED
    assert refused.value.retry_after_s
    go_on.set()
    assert [report.imported for report in await asyncio.gather(*running)] == [1] * len(running)
    assert (await import_(importer, own())).imported == 0
    assert gc.isenabled()


async def test_an_answer_that_was_being_written_is_left_out(
    database: Database, exporter: Exporter, importer: Importer
) -> None:
    writing = Node("a1", "q1", {"status": "in_progress", "content": ""})
    await seed(database, [*chain("q1"), writing])
    file = await export(exporter)
    assert (await import_(importer, file.encode(), user="bob")).messages == 1
    [found] = without_ids(await export(exporter, user="bob"))
    assert [m["content"] for m in found["messages"]] == ["text of q1"]
    assert found["current_message_id"] == 0


async def test_many_messages_are_quick_and_go_on(database: Database, importer: Importer) -> None:
    """A chain so long that recursion would end, in several statements; it can be forked like any other."""
    count = 5000
    messages = [message(f"{'qa'[n % 2]}{n}", f"{'qa'[(n - 1) % 2]}{n - 1}" if n else "") for n in range(count)]
    report = await import_(importer, own(conversation(messages)), cut=2**20)
    assert (report.imported, report.messages, report.problems) == (1, count, [])
    [(id_,)] = await database.statement("SELECT id FROM conversation.conversations")
    made = await ForkStore(database=database, clock=HandClock()).fork(
        user_id="alice", conversation_id=str(id_), message_id="", title="", request_id=""
    )
    assert made.message_count == count
