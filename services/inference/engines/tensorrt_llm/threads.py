"""Calls of the library that block.

Its constructor takes minutes and its shutdown may hang. Threads of the event loop's own pool would be waited for at the
end of the process, so these are daemons: a call that hangs ends with the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T], *, name: str) -> T:
    """The result of a call in a thread of its own. Cancelling leaves the thread to itself."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value: T | None = None
        raised: BaseException | None = None
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 - it goes to whoever waits
            raised = error
        try:
            loop.call_soon_threadsafe(settle, value, raised)
        except RuntimeError:
            # The loop is closed, and nobody waits any more.
            return

    threading.Thread(target=run, name=name, daemon=True).start()
    return await result
