"""A TCP proxy before a server on a Unix socket, which can be cut, and can lose what is asked or replied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


class Proxy:
    """Forwards while it is up. Down, it refuses new connections and has ended all others."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._after: bytes | None = None
        self._swallows = False
        self.cuts = 0
        self.port = 0

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._cut()

    def cut_after(self, marker: bytes) -> None:
        """Once, when a client has sent `marker`: let the server do it, and cut instead of passing its reply on."""
        self._after = marker

    def swallow(self) -> None:
        """From now on the server hears nothing, and the clients wait for its replies."""
        self._swallows = True

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above_reader, above = await asyncio.open_unix_connection(self._socket)
        lost = asyncio.Event()
        self._writers |= {writer, above}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(reader, above, lost))
                group.create_task(self._replies(above_reader, writer, lost))
        except* OSError:
            pass
        finally:
            self._writers -= {writer, above}
            writer.close()
            above.close()

    async def _requests(self, reader: asyncio.StreamReader, above: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        while data := await reader.read(65536):
            if self._swallows:
                continue
            if self._after is not None and self._after in data:
                self._after = None
                lost.set()
            above.write(data)
            await above.drain()
        above.close()

    async def _replies(self, above: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event) -> None:
        while data := await above.read(65536):
            if lost.is_set():
                self.cuts += 1
                writer.transport.abort()
                return
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def running_proxy(socket: Path) -> AsyncIterator[Proxy]:
    proxy = Proxy(socket)
    await proxy.up()
    try:
        yield proxy
    finally:
        await proxy.down()
