"""What a long history costs: listing, search, the context of a turn and a branch, at 1,000 and 1,000,000 messages."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from bench.figures import brief, percentile, table
from bench.history_fill import (
    COMMON_RANK,
    RARE,
    RARE_TIMES,
    History,
    fill,
    message_id,
    remove_copies,
    time_of,
    vocabulary,
)
from tests.faults.breakage import database_url
from tests.faults.client import Client
from tests.faults.conftest import MODELS
from tests.mesh_process import MeshProcess, running_mesh

_PER_CONVERSATION = 100
_BRANCH_DEPTH = 1000
_FAR_PAGE = 100
_LONGEST_S = 15.0
"""How long one thing is measured at most; what is slow is measured less often."""
_TURN = {"max_tokens": 4}
Times = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class _Reader:
    """A user with a history, and how often each thing is asked."""

    client: Client
    history: History
    rounds: int

    def measure(self, path: str, **query: Any) -> list[float]:
        """Times of a GET in ms."""
        asked = f"{path}?{urlencode(query)}"
        return self.repeat(lambda: self.client.call("GET", asked))

    def repeat(self, work: Callable[[], object]) -> list[float]:
        """Times of some work in ms, without those of the first time."""
        work()
        times: list[float] = []
        give_up = time.monotonic() + _LONGEST_S
        while len(times) < self.rounds and time.monotonic() < give_up:
            begun = time.perf_counter()
            work()
            times.append((time.perf_counter() - begun) * 1000)
        return times


def add_arguments(parser: ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--small", type=int, default=1_000, help="messages")
    parser.add_argument("--large", type=int, default=1_000_000, help="messages")
    parser.add_argument("--rounds", type=int, default=100, help="of each request")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: Namespace) -> int:
    """Measure and print."""
    columns: dict[str, Times] = {}
    with running_mesh(models=MODELS) as mesh:
        small = _fill(mesh, arguments.small)
        columns[f"{arguments.small:,}"] = _measure(mesh, *small, rounds=arguments.rounds)
        large = _fill(mesh, arguments.large)
        columns[f"{arguments.large:,}"] = _measure(mesh, *large, rounds=arguments.rounds)
        columns[f"{arguments.small:,} beside {arguments.large:,}"] = _measure(mesh, *small, rounds=arguments.rounds)
    if arguments.json:
        print(json.dumps(columns))
        return 0
    print(f"Load of the machine at the end: {os.getloadavg()[0]:.1f}. p50/p99 in ms, through the edge.\n")
    names = list(dict.fromkeys(name for times in columns.values() for name in times))
    rows = [[name, *(_cell(times.get(name)) for times in columns.values())] for name in names]
    print(table(("request", *columns), rows))
    return 0


def _fill(mesh: MeshProcess, messages: int) -> tuple[History, History]:
    """A user with one conversation, and one with many."""
    begun = time.monotonic()
    one = fill(database_url(mesh), messages=messages, conversations=1, seed=1)
    many = fill(database_url(mesh), messages=messages, conversations=max(2, messages // _PER_CONVERSATION), seed=2)
    print(f"{messages:,} messages twice: filled in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return one, many


def _cell(times: Sequence[float] | None) -> str:
    return f"{brief(percentile(times, 0.5))}/{brief(percentile(times, 0.99))}" if times else ""


def _measure(mesh: MeshProcess, one: History, many: History, *, rounds: int) -> Times:
    found: Times = {}
    with Client(mesh, user=one.user, model="fast") as client:
        reader = _Reader(client, one, rounds)
        for part in (_listing, _turns, _search, _branch):
            found |= {f"one conversation: {name}": times for name, times in part(reader).items()}
    remove_copies(database_url(mesh), one)
    with Client(mesh, user=many.user, model="fast") as client:
        reader = _Reader(client, many, rounds)
        for part in (_overview, _search):
            found |= {f"many conversations: {name}": times for name, times in part(reader).items()}
    return found


def _listing(reader: _Reader) -> Times:
    history = reader.history
    path = f"/v1/conversations/{history.conversations[0]}/messages"
    first = reader.client.call("GET", path)
    middle = _moved(first["next_page_token"], history.messages // 2)
    found = reader.client.call("GET", f"{path}?page_token={middle}")["messages"]
    assert found[0]["depth"] == history.messages // 2 + 1
    return {
        "ListMessages, first page of 50": reader.measure(path),
        "ListMessages, a page in the middle": reader.measure(path, page_token=middle),
        "ListMessages, newest first": reader.measure(path, order="MESSAGE_ORDER_NEWEST_FIRST"),
    }


def _moved(token: str, depth: int) -> str:
    """The token of a page elsewhere; to get it from the list itself would take thousands of pages."""
    digest, _, leaf = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    return base64.urlsafe_b64encode(json.dumps([digest, depth, leaf]).encode()).decode().rstrip("=")


def _turns(reader: _Reader) -> Times:
    """Time to the first token: most of it is the context's, which reads the history back to where the window ends."""
    return {
        "first token of a turn": _first_tokens(reader, lambda: reader.history.conversations[0]),
        "first token in a new conversation": _first_tokens(reader, reader.client.conversation),
    }


def _first_tokens(reader: _Reader, conversation_of: Callable[[], str]) -> list[float]:
    times: list[float] = []

    def turn() -> None:
        conversation_id = conversation_of()
        sent_at = time.monotonic()
        answer = reader.client.ask("Hello", conversation_id=conversation_id, sampling=_TURN)
        first = next(at for at, event in zip(answer.arrivals, answer.events, strict=True) if "delta" in event)
        times.append((first - sent_at) * 1000)

    reader.repeat(turn)
    return times[1:]


def _branch(reader: _Reader) -> Times:
    history = reader.history
    body = {"message_id": str(message_id(history.user, min(_BRANCH_DEPTH, history.messages) - 1))}
    path = f"/v1/conversations/{history.conversations[0]}:branch"
    return {
        f"BranchConversation at depth {_BRANCH_DEPTH:,}": reader.repeat(lambda: reader.client.call("POST", path, body))
    }


def _overview(reader: _Reader) -> Times:
    found = {"ListConversations, first page of 50": reader.measure("/v1/conversations")}
    token = ""
    for _ in range(_FAR_PAGE - 1):
        token = reader.client.call("GET", f"/v1/conversations?page_token={token}").get("next_page_token", "")
        if not token:
            break
    if token:
        found[f"ListConversations, page {_FAR_PAGE}"] = reader.measure("/v1/conversations", page_token=token)
    return found


def _search(reader: _Reader) -> Times:
    common = vocabulary()[COMMON_RANK - 1]
    last = reader.history.messages
    day = {
        "start_time": time_of(last // 2).isoformat().replace("+00:00", "Z"),
        "end_time": time_of(last // 2 + last // 100).isoformat().replace("+00:00", "Z"),
    }
    rare = reader.client.call("GET", f"/v1/conversations:search?query={RARE}")["results"]
    # More than these would mean that it reads what is not there, fewer that it does not find what is.
    assert len(rare) == RARE_TIMES, len(rare)
    queries: Mapping[str, Mapping[str, str]] = {
        "a rare word": {"query": RARE},
        "a rare word and a common one": {"query": f"{RARE} {common}"},
        "a common word": {"query": common},
        "two common words": {"query": f"{vocabulary()[COMMON_RANK]} {common}"},
        "a beginning of three letters": {"query": common[:3]},
        "a common word, by model and within 1% of the time": {"query": common, "model": "fast", **day},
    }
    return {f"search, {name}": reader.measure("/v1/conversations:search", **query) for name, query in queries.items()}
