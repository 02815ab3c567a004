"""Who waits for which conversation to be free, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class TurnQueue:
    """One queue for each conversation, as long as somebody is in it."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[asyncio.Event]] = {}

    @contextmanager
    def place(self, conversation_id: str) -> Iterator[asyncio.Event]:
        """A place at the end of the queue of a conversation. The event is set once all that came before have left."""
        queue = self._queues.setdefault(conversation_id, deque())
        first = asyncio.Event()
        queue.append(first)
        queue[0].set()
        try:
            yield first
        finally:
            queue.remove(first)
            if queue:
                queue[0].set()
            else:
                del self._queues[conversation_id]
