"""HTTP as llama.cpp's server speaks it, in any pieces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.engines.http_exchange import ChunkedBody, HttpExchange, Reply, post

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(parts: Sequence[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def split(data: bytes, places: Sequence[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place for place in places if place < len(data))})
    return [data[a:b] for a, b in pairwise(marks)]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.lists(st.integers(0, 300), max_size=20))
def test_chunks_in_any_pieces(parts: list[bytes], places: list[int]) -> None:
    body = ChunkedBody()
    assert b"".join(body.feed(piece) for piece in split(chunked(parts), places)) == b"".join(parts)
    assert body.done


def test_what_is_not_chunked() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        ChunkedBody().feed(b"hello\r\n")


class Connection:
    """Stands for the transport."""

    def __init__(self) -> None:
        self.sent = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True


async def exchange(
    data: bytes, places: Sequence[int] = (), *, error: Exception | None = None
) -> tuple[Reply, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    talk = HttpExchange(post("/completion", {"a": 1}, api_key="k"), on_event=events.append)
    connection: Any = Connection()
    talk.connection_made(connection)
    assert connection.sent.endswith(b'\r\n\r\n{"a": 1}')
    for piece in split(data, places):
        talk.data_received(piece)
    talk.connection_lost(error)
    return await talk.reply, events


@given(st.lists(st.text(max_size=10), max_size=5), st.lists(st.integers(0, 600), max_size=30))
def test_events_in_any_pieces(texts: list[str], places: list[int]) -> None:
    sent = [{"content": text} for text in texts]
    parts = [f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode() for event in sent]
    reply, events = asyncio.run(exchange(HEAD + chunked(parts), places))
    assert reply == Reply(200)
    assert events == sent


async def test_pings_and_errors() -> None:
    parts = [b":\n\n", b'error: {"message":"x"}\n\n', b"data: [DONE]\n\n", b"data: null\n\n"]
    _, events = await exchange(HEAD + chunked(parts))
    assert events == [{"error": {"message": "x"}}]


async def test_a_json_answer() -> None:
    reply, events = await exchange(b'HTTP/1.1 400 Bad\r\nContent-Length: 7\r\n\r\n{"a":1}')
    assert reply == Reply(400, {"a": 1})
    assert not reply.ok
    assert not events


@pytest.mark.parametrize(
    "data",
    [b"", HEAD, HEAD + b'10\r\ndata: {"a', b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{", b"nonsense\r\n\r\n"],
)
async def test_a_broken_answer_is_none(data: bytes) -> None:
    reply, events = await exchange(data)
    assert reply.status == 0
    assert not events


async def test_nothing_comes_after_close() -> None:
    events: list[dict[str, Any]] = []
    talk = HttpExchange(b"x", on_event=events.append)
    connection: Any = Connection()
    talk.connection_made(connection)
    talk.close()
    talk.data_received(HEAD + chunked([b"data: {}\n\n"]))
    assert connection.aborted
    assert not events
    assert (await talk.reply).status == 0
