"""Work that outlives the calls that began it, and ends with the process in an orderly way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from services.runtime.errors import DomainError, Reason

LAST_WORDS_S = 5.0
"""How long work may take to end after it was asked to stop."""


class LiveTasks:
    """Tasks that nobody waits for but this process."""

    def __init__(self, *, grace_s: float) -> None:
        self._grace_s = grace_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    def require_open(self) -> None:
        """Ask this before new work is begun.

        Raises:
            DomainError: DRAINING when the process takes no new work.
        """
        if self._draining:
            raise DomainError(Reason.DRAINING, "This server is shutting down; try again.")

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` whatever becomes of the caller; also what belongs to work that was begun before draining."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Cancel what runs."""
        for task in self._tasks:
            task.cancel()

    async def drain(self, stop: Callable[[], None]) -> None:
        """Take no more work, let what runs end, ask it to `stop` when it takes too long, then cancel it."""
        self._draining = True
        await self._wait(self._grace_s)
        if self._tasks:
            stop()
            await self._wait(LAST_WORDS_S)
        self.cancel()

    async def _wait(self, timeout_s: float) -> None:
        """Wait until nothing runs; also for what is begun meanwhile."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while self._tasks and loop.time() < end:
            await asyncio.wait(self._tasks, timeout=end - loop.time())
