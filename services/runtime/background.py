"""Tasks that run as long as the service does."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

_log = logging.getLogger(__name__)

CANCEL_AGAIN_S = 2.0
"""A task may miss that it was cancelled: up to Python 3.11 `wait_for`, through which the Redis client writes, forgets a
cancellation that comes when what it waits for is just done.
"""


class Background:
    """Runs coroutines until the context ends. One that fails takes the process down: half a service is worse."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, *work: Coroutine[Any, Any, None]) -> None:
        """Run these beside everything else."""
        for coroutine in work:
            task = asyncio.create_task(coroutine, name=getattr(coroutine, "__qualname__", "background"))
            task.add_done_callback(_watch)
            self._tasks.append(task)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pending = set(self._tasks)
        while pending:
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        for outcome in outcomes:
            # So that the process ends with an error and not as if it had been asked to.
            if isinstance(outcome, Exception) and error is None:
                raise outcome


def _watch(task: asyncio.Task[None]) -> None:
    if task.cancelled() or task.exception() is None:
        return
    _log.error("background task failed", extra={"task": task.get_name()}, exc_info=task.exception())
    os.kill(os.getpid(), signal.SIGTERM)
