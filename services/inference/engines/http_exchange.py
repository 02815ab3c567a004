"""One HTTP/1.1 request on a Unix socket, its answer read as JSON or as server-sent events.

A general client costs several task switches for each event; this costs one callback for whatever arrived. It speaks
just what llama.cpp's server speaks: a length or chunks, one request per connection.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

_HEAD_END = b"\r\n\r\n"
_EVENT_END = b"\n\n"


class ChunkedBody:
    """Undoes chunked transfer coding (RFC 9112, 7.1) piece by piece."""

    __slots__ = ("_buffer", "_left", "done")

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """Add bytes of the connection; the bytes of the body that became complete.

        Raises:
            ValueError: this is not chunked coding.
        """
        self._buffer += data
        out: list[bytes] = []
        while self._buffer and not self.done:
            if self._left > 2:
                part = self._buffer[: self._left - 2]
                out.append(part)
                self._buffer = self._buffer[len(part) :]
                self._left -= len(part)
            elif self._left:
                # The line end after a chunk's data.
                if len(self._buffer) < self._left:
                    break
                self._buffer = self._buffer[self._left :]
                self._left = 0
            else:
                line, found, rest = self._buffer.partition(b"\r\n")
                if not found:
                    break
                size = int(line.partition(b";")[0], 16)
                self._buffer = rest
                self.done = size == 0
                self._left = size + 2 if size else 0
        return b"".join(out)


@dataclass(frozen=True, slots=True)
class Reply:
    """How an exchange ended: the HTTP status, 0 when the connection broke, and the body where it was not events."""

    status: int
    body: Any = None

    @property
    def ok(self) -> bool:
        """Whether the request was done."""
        return self.status == 200


EventCallback = Callable[[dict[str, Any]], None]


class HttpExchange(asyncio.Protocol):
    """Sends one request and reads its answer; `reply` is done at its end. `close` gives it up."""

    def __init__(self, request: bytes, *, on_event: EventCallback | None = None) -> None:
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._request = request
        self._on_event = on_event
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._status = 0
        self._chunks: ChunkedBody | None = None
        self._events = False
        self._body = b""
        self._closed = False

    def close(self) -> None:
        """Give up: the server notices and stops its work. No event comes after this."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()
        if not self.reply.done():
            self.reply.set_result(Reply(0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = cast(asyncio.Transport, transport)
        if self._closed:
            self._transport.abort()
        else:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take whatever arrived."""
        if self._closed:
            return
        try:
            if not self._status:
                self._head += data
                head, found, data = self._head.partition(_HEAD_END)
                if not found:
                    return
                self._read_head(head)
            self._read_body(self._chunks.feed(data) if self._chunks is not None else data)
        except ValueError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closes the connection at the end of its answer."""
        self._closed = True
        if self.reply.done():
            return
        complete = exc is None and self._status and (self._chunks is None or self._chunks.done)
        body: Any = None
        if complete and not self._events:
            try:
                body = json.loads(self._body)
            except ValueError:
                complete = False
        self.reply.set_result(Reply(self._status if complete else 0, body))

    def _read_head(self, head: bytes) -> None:
        status_line, *lines = head.split(b"\r\n")
        self._status = int(status_line[len("HTTP/1.1 ") :][:3])
        headers = {
            name.strip().lower(): value.strip().lower() for name, _, value in (line.partition(b":") for line in lines)
        }
        if headers.get(b"transfer-encoding") == b"chunked":
            self._chunks = ChunkedBody()
        self._events = headers.get(b"content-type", b"").startswith(b"text/event-stream")

    def _read_body(self, data: bytes) -> None:
        self._body += data
        if not self._events:
            return
        while (end := self._body.find(_EVENT_END)) >= 0:
            event, self._body = self._body[:end], self._body[end + len(_EVENT_END) :]
            for line in event.split(b"\n"):
                name, _, value = line.partition(b": ")
                if name in (b"data", b"error") and value.startswith(b"{") and self._on_event and not self._closed:
                    content = json.loads(value)
                    self._on_event(content if name == b"data" else {"error": content})


def get(path: str, *, api_key: str) -> bytes:
    """The bytes of a GET request."""
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {api_key}\r\n\r\n"
    return head.encode()


def post(path: str, body: object, *, api_key: str) -> bytes:
    """The bytes of a POST request."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {api_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content
