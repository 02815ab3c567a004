"""Conversations that tests begin with, as turns leave them in the database."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path as FilePath
from typing import Any

from psycopg.types.json import Jsonb

import services.conversation
from services.conversation.tree import Path
from services.runtime.database import Database
from services.runtime.migrations import migrate

START = datetime(2026, 1, 1, tzinfo=UTC)
ROUTE = {
    "requested_model": "auto",
    "model": "tiny",
    "engine": "synthetic",
    "replica_id": "r",
    "rule": "alias",
    "candidates": [],
}


class HandClock:
    """A clock that moves a millisecond each time it is read."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()


@asynccontextmanager
async def conversation_database(url: str) -> AsyncIterator[Database]:
    directory = FilePath(services.conversation.__file__).parent / "migrations"
    await migrate(url, schema="conversation", directory=directory)
    async with Database(url) as opened:
        yield opened


@dataclass
class Node:
    """A message: its name, whom it follows, and what differs from an ordinary one."""

    name: str
    parent: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Seeded:
    """A conversation, and the ids of its messages by name."""

    id: str
    user: str
    ids: dict[str, str]


def chain(*names: str, after: str = "") -> list[Node]:
    """Messages that follow each other; what begins with `q` is a question, all else an answer."""
    parents = [after, *names]
    return [Node(name, parent) for name, parent in zip(names, parents, strict=False)]


async def seed(
    database: Database, nodes: Sequence[Node], *, user: str = "alice", leaf: str = "", **conversation: Any
) -> Seeded:
    """Store a conversation. The first that follows a message goes on with its branch, each other opens a new one."""
    id_ = str(uuid.uuid4())
    shown = leaf or (nodes[-1].name if nodes else "")
    await database.statement(
        "INSERT INTO conversation.conversations (id, user_id, title, model, system_prompt, created_at, updated_at)"
        " VALUES (%(id)s, %(user)s, %(title)s, %(model)s, %(prompt)s, %(now)s, %(now)s)",
        {
            "id": id_,
            "user": user,
            "title": conversation.get("title", "a title"),
            "model": conversation.get("model", "tiny"),
            "prompt": conversation.get("system_prompt", "be nice"),
            "now": conversation.get("created_at", START),
        },
    )
    ids: dict[str, str] = {}
    paths: dict[int, Path] = {0: Path()}
    places: dict[str, tuple[int, int]] = {"": (0, 0)}
    taken: set[tuple[int, int]] = set()
    for sequence, node in enumerate(nodes, 1):
        branch, depth = places[node.parent]
        place = (branch, depth + 1)
        if place in taken:
            new = max(paths) + 1
            paths[new] = paths[branch].fork(after_depth=depth, branch=new)
            place = (new, depth + 1)
            await database.statement(
                "INSERT INTO conversation.branches VALUES (%(id)s, %(branch)s, %(branches)s, %(starts)s)",
                {
                    "id": id_,
                    "branch": new,
                    "branches": list(paths[new].branches),
                    "starts": list(paths[new].starts),
                },
            )
        taken.add(place)
        places[node.name] = place
        ids[node.name] = str(uuid.uuid4())
        await _message(database, id_, user, sequence, node, ids, place)
    if nodes:
        await database.statement(
            "UPDATE conversation.conversations SET last_sequence = %(count)s, leaf_message_id = %(leaf)s,"
            " leaf_branch = %(branch)s, leaf_depth = %(depth)s, next_branch = %(next)s WHERE id = %(id)s",
            {
                "id": id_,
                "count": len(nodes),
                "leaf": ids[shown],
                "branch": places[shown][0],
                "depth": places[shown][1],
                "next": max(paths) + 1,
            },
        )
    return Seeded(id_, user, ids)


async def _message(
    database: Database,
    conversation_id: str,
    user: str,
    sequence: int,
    node: Node,
    ids: Mapping[str, str],
    place: tuple[int, int],
) -> None:
    answer = not node.name.startswith("q")
    fields = {
        "role": "assistant" if answer else "user",
        "content": f"text of {node.name}",
        "status": "completed",
        "model": "tiny" if answer else "",
        "finish_reason": "stop" if answer else "",
        "tokens": 7 if answer else None,
        "route": Jsonb(ROUTE) if answer else None,
        "error": None,
        **node.fields,
    }
    await database.statement(
        "INSERT INTO conversation.messages (conversation_id, sequence, id, parent_id, role, content, status,"
        " generation_id, model, finish_reason, prompt_tokens, completion_tokens, cached_tokens, route, error,"
        " created_at, user_id, branch, depth) VALUES (%(conversation)s, %(sequence)s, %(id)s, %(parent)s, %(role)s,"
        " %(content)s, %(status)s, %(generation)s, %(model)s, %(finish_reason)s, %(tokens)s, %(tokens)s, %(tokens)s,"
        " %(route)s, %(error)s, %(now)s, %(user)s, %(branch)s, %(depth)s)",
        {
            **fields,
            "conversation": conversation_id,
            "sequence": sequence,
            "id": ids[node.name],
            "parent": ids.get(node.parent),
            "generation": str(uuid.uuid4()),
            "now": START + timedelta(seconds=sequence),
            "user": user,
            "branch": place[0],
            "depth": place[1],
        },
    )
