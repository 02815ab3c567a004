"""The log of one generation: typed events in order, appended before they are delivered.

Any number of readers follow it, each with nothing but the position it has seen. A reader that is behind gets all that
it missed at once, neighbouring text merged: a slow client costs no memory of its own and no extra messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from services.conversation.model import ErrorSummary, Message


@dataclass(frozen=True, slots=True)
class Started:
    """The turn has begun."""

    conversation_id: str
    user_message_id: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Delta:
    """More text at the end."""

    text: str


@dataclass(frozen=True, slots=True)
class Retracted:
    """Text that must go; offsets in code points of the answer as shown so far."""

    start: int
    end: int
    replacement: str
    category: str


@dataclass(frozen=True, slots=True)
class Completed:
    """The answer is complete; `message` is None when the generation belongs to no conversation."""

    message: Message | None


@dataclass(frozen=True, slots=True)
class Failed:
    """There will be no more."""

    error: ErrorSummary
    message: Message | None


Event = Started | Delta | Retracted | Completed | Failed


@dataclass(frozen=True, slots=True)
class Entry:
    """An event and its position; of merged entries, the position of the last."""

    seq: int
    event: Event


class GenerationLog:
    """The events of one generation of one epoch. Not for use from other threads."""

    def __init__(self, generation_id: str, *, epoch: int = 1) -> None:
        self.generation_id = generation_id
        self.epoch = epoch
        self._events: list[Event] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._closed = False

    @property
    def closed(self) -> bool:
        """True once the terminal event is there."""
        return self._closed

    def append(self, event: Event) -> None:
        """Add an event and wake the readers. Nothing may follow a terminal event."""
        if self._closed:
            raise ValueError("the generation has ended")
        self._events.append(event)
        self._closed = isinstance(event, Completed | Failed)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def read(self, after_seq: int) -> list[Entry]:
        """Wait until there is something after `after_seq` and return all of it, neighbouring text merged.

        Empty when the log is closed and nothing comes after `after_seq`.
        """
        while len(self._events) <= after_seq:
            if self._closed:
                return []
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        return merge(self._events[after_seq:], after_seq)


def merge(events: Sequence[Event], after_seq: int) -> list[Entry]:
    """The events that follow `after_seq`, with runs of text as one delta."""
    entries: list[Entry] = []
    texts: list[str] = []
    seq = after_seq
    for event in events:
        if isinstance(event, Delta):
            texts.append(event.text)
        else:
            if texts:
                entries.append(Entry(seq, Delta("".join(texts))))
                texts = []
            entries.append(Entry(seq + 1, event))
        seq += 1
    if texts:
        entries.append(Entry(seq, Delta("".join(texts))))
    return entries
