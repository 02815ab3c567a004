"""Replies that a test queues, and calls that it holds."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.runtime.errors import DomainError
from services.runtime.interceptor import abort

DEADLINE_S = 30.0

Reply = Any
"""A message, a `DomainError` to refuse with, a `Held` call, or an exception to fail with."""


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds; fail naming `what` when it does not in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in {DEADLINE_S:g} s: {what}"
        await asyncio.sleep(0.005)


class Held:
    """A call that is answered when the test says so."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def reply(self, reply: Reply) -> None:
        self._answer.set_result(reply)

    async def answer(self) -> Reply:
        self.called.set()
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@dataclass
class Method:
    """One method of a fake. It answers with what was queued and nothing else."""

    name: str
    journal: list[str]
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    unexpected: int = 0
    _queue: deque[Reply] = field(default_factory=deque)

    def queue(self, *replies: Reply) -> None:
        """Answer the next calls by these."""
        self._queue.extend(replies)

    @property
    def waiting(self) -> int:
        """Replies that nothing has asked for."""
        return len(self._queue)

    async def take(self, request: Any, context: Any) -> Any:
        """Note a call and answer it."""
        self.journal.append(self.name)
        self.requests.append(request)
        self.metadata.append(metadata_of(context))
        if not self._queue:
            self.unexpected += 1
            raise AssertionError(f"the test has no answer for {self.name}")
        reply = self._queue.popleft()
        if isinstance(reply, Held):
            reply = await reply.answer()
        if isinstance(reply, DomainError):
            await abort(context, reply)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def forget(self) -> None:
        """Before the next test."""
        self.requests.clear()
        self.metadata.clear()
        self._queue.clear()
        self.unexpected = 0


def metadata_of(context: Any) -> dict[str, str | bytes]:
    """What came with a call."""
    return dict(context.invocation_metadata() or ())
