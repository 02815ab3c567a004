"""One reading of what was said before, for all who need its newest part."""

from __future__ import annotations

import asyncio

from services.conversation.peers.context import History
from services.conversation.peers.convert import Page


class SharedHistory:
    """Gives readers that begin at the newest message each. The first page is read once, by the first who asks."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._first: asyncio.Future[Page] | None = None

    def reader(self) -> History:
        """A reader. Only one of them may go beyond the first page."""
        begun = False

        async def next_page(limit: int) -> Page:
            nonlocal begun
            if begun:
                return await self._history(limit)
            begun = True
            if self._first is None:
                self._first = asyncio.ensure_future(self._history(limit))
                # Whoever waits for it is told what went wrong; when nobody does any more, nobody is.
                self._first.add_done_callback(lambda task: task.cancelled() or task.exception())
            return await asyncio.shield(self._first)

        return next_page
