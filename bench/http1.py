"""The least of an HTTP/1.1 client that can carry thousands of streams beside the mesh on the same machine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Self, cast

OnBody = Callable[[bytes, float], None]
"""Gets each piece of a body and when it came (`time.perf_counter`)."""

_END_OF_HEAD = b"\r\n\r\n"


class HttpError(Exception):
    """The connection was lost in the middle of an answer, or what came is not HTTP as the edge speaks it."""


class Connection(asyncio.Protocol):
    """One connection that is kept; one request at a time."""

    def __init__(self, *, host: str, token: str) -> None:
        self._head = f"host: {host}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n".encode()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._left: int | None = None
        """Bytes that the body still has; None while the head is awaited, -1 for chunks."""
        self._on_body: OnBody | None = None
        self.status = 0
        """Of the answer that is being read, from its first piece on."""
        self._done: asyncio.Future[int] | None = None

    @classmethod
    async def open(cls, host: str, port: int, *, token: str) -> Self:
        """Connect."""
        _, protocol = await asyncio.get_running_loop().create_connection(
            lambda: cls(host=f"{host}:{port}", token=token), host, port
        )
        return protocol

    async def post(self, path: str, body: bytes, on_body: OnBody) -> int:
        """Send a request and wait for the end of the answer. Returns the status.

        Raises:
            HttpError: there was no whole answer.
        """
        if self._transport is None:
            raise HttpError("not connected")
        self._on_body = on_body
        self._left = None
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(
            b"POST %s HTTP/1.1\r\n%scontent-length: %d\r\n\r\n%s" % (path.encode(), self._head, len(body), body)
        )
        return await self._done

    async def post_json(self, path: str, value: Any) -> tuple[int, Any]:
        """Send JSON and read JSON."""
        parts: list[bytes] = []
        status = await self.post(path, json.dumps(value).encode(), lambda data, _: parts.append(data))
        return status, json.loads(b"".join(parts) or b"null")

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        # uvloop's transports are none by inheritance.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._transport = None
        if self._done is not None and not self._done.done():
            self._done.set_exception(HttpError(f"the connection was lost: {exc}"))

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        now = time.perf_counter()
        self._buffer = self._buffer + data if self._buffer else data
        try:
            self._read(now)
        except (HttpError, ValueError) as error:
            if self._done is not None and not self._done.done():
                self._done.set_exception(HttpError(str(error)))
            self.close()

    def _read(self, now: float) -> None:
        if self._left is None and not self._read_head():
            return
        assert self._on_body is not None
        if self._left == -1:
            self._read_chunks(self._on_body, now)
        elif self._left is not None:
            data, self._buffer = self._buffer, b""
            self._left -= len(data)
            if data:
                self._on_body(data, now)
            if self._left == 0:
                self._finish()

    def _read_head(self) -> bool:
        end = self._buffer.find(_END_OF_HEAD)
        if end < 0:
            return False
        lines = self._buffer[:end].split(b"\r\n")
        self._buffer = self._buffer[end + len(_END_OF_HEAD) :]
        self.status = int(lines[0].split(b" ")[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        self._left = (
            -1 if headers.get(b"transfer-encoding") == b"chunked" else int(headers.get(b"content-length", b"0"))
        )
        return True

    def _read_chunks(self, on_body: OnBody, now: float) -> None:
        buffer = self._buffer
        at = 0
        while True:
            end_of_size = buffer.find(b"\r\n", at)
            if end_of_size < 0:
                break
            size = int(buffer[at:end_of_size], 16)
            start = end_of_size + 2
            if len(buffer) < start + size + 2:
                break
            at = start + size + 2
            if not size:
                self._buffer = buffer[at:]
                self._finish()
                return
            on_body(buffer[start : start + size], now)
        self._buffer = buffer[at:]

    def _finish(self) -> None:
        if self._buffer:
            raise HttpError("more came than was announced")
        if self._done is not None and not self._done.done():
            self._done.set_result(self.status)
