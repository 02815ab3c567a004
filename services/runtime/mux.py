"""Gather and drain: how everything moves on the streams between processes.

A message costs the same however much it carries, so nobody sends what is ready one by one. Whoever produces puts it
into an `Outbox`; one writer takes all that has gathered since its last write and sends it as one message. When nothing
is waiting the first thing goes at once; while a write is in flight the rest gathers by itself.
"""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class OutboxClosed(Exception):
    """The outbox is closed and empty."""


class Outbox(Generic[T]):
    """An unbounded gathering place for one writer. Not for use from other threads.

    It is bounded by what feeds it: deltas of running generations, whose number admission limits.
    """

    __slots__ = ("_closed", "_items", "_waiter")

    def __init__(self) -> None:
        self._items: list[T] = []
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Add an item; dropped when the outbox is closed, for then nobody is left to read it."""
        if not self._closed:
            self._items.append(item)
            self._wake()

    def close(self) -> None:
        """No more items; the writer gets what is left, then `OutboxClosed`."""
        self._closed = True
        self._wake()

    async def drain(self) -> list[T]:
        """Wait until something is there and take all of it, in order. For one caller at a time.

        Raises:
            OutboxClosed: when it is closed and empty.
        """
        while not self._items:
            if self._closed:
                raise OutboxClosed
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.take()

    def take(self) -> list[T]:
        """Take all that is there now, without waiting; empty when nothing is."""
        items, self._items = self._items, []
        return items

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
