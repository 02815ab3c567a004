"""A server with OpenAI's API that says what a test tells it to, byte by byte, on a real port."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

MODEL = "model-there"

Act = Callable[["Connection"], Awaitable[None]]


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Connection:
    """The side of the server of one request."""

    def __init__(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked = asked
        self._reader = reader
        self._writer = writer

    async def head(self, status: int = 200, *, content_type: str = "text/event-stream", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}", "transfer-encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join([*lines, "", ""]).encode())

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def bytes(self, data: bytes) -> None:
        """A chunk of HTTP."""
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def events(self, *chunks: Any) -> None:
        """Chunks of an answer, in one piece."""
        await self.bytes(b"".join(event(chunk) for chunk in chunks))

    async def done(self) -> None:
        await self.bytes(b"data: [DONE]\n\n")
        await self.raw(b"0\r\n\r\n")

    async def gone(self) -> None:
        """Return when the client has hung up."""
        try:
            await self._reader.read()
        except ConnectionError:
            return


def event(chunk: Any) -> bytes:
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()


def text(content: str, *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}], **more}


def usage(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def last(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    return {"choices": [], "usage": usage(prompt, completion, cached)}


def answers(*chunks: Any) -> Act:
    """Sends an answer, whole."""

    async def act(connection: Connection) -> None:
        await connection.head()
        await connection.events(*chunks)
        await connection.done()

    return act


def replies(status: int, body: Any, **headers: str) -> Act:
    """Sends JSON."""

    async def act(connection: Connection) -> None:
        await connection.head(status, content_type="application/json", **headers)
        await connection.bytes(json.dumps(body).encode())
        await connection.raw(b"0\r\n\r\n")

    return act


class OpenAIDouble:
    """Does what was queued for a path, in order; what nobody queued fails the test at the end."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.models = [MODEL]
        self._acts: dict[str, deque[Act]] = {}
        self._surprises: list[str] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if kind is None:
            assert not self._surprises, self._surprises
            assert not any(self._acts.values()), "something that was queued was never asked for"

    async def stop(self) -> None:
        """End it with all its connections."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}"

    def expect(self, act: Act, *, path: str = "/v1/chat/completions") -> None:
        self._acts.setdefault(path, deque()).append(act)

    def bodies(self, path: str = "/v1/chat/completions") -> list[Any]:
        return [asked.body for asked in self.asked if asked.path == path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            asked = await _read(reader)
            if asked is not None:
                await self._act(Connection(asked, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _act(self, connection: Connection) -> None:
        asked = connection.asked
        self.asked.append(asked)
        acts = self._acts.get(asked.path)
        if acts:
            await acts.popleft()(connection)
        elif asked.path == "/v1/models":
            await replies(200, {"data": [{"id": name} for name in self.models]})(connection)
        else:
            self._surprises.append(f"{asked.method} {asked.path}")
            await replies(500, {})(connection)


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode().splitlines()
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, json.loads(content) if content else None)
