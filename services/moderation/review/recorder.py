"""Records events without keeping the checks waiting.

What comes while a batch is written goes with the next one. While the database is away events wait here, as many as fit:
a check is not refused because it cannot be written down.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Sequence

import psycopg

from services.moderation.model import Event
from services.moderation.review.metrics import ReviewMetrics
from services.moderation.review.store import EventStore
from services.runtime.errors import DomainError

_log = logging.getLogger(__name__)

CAPACITY = 10_000
"""Events that wait, at most."""
CAPACITY_CHARACTERS = 50_000_000
"""Characters of their texts, at most."""
BATCH = 200
BATCH_CHARACTERS = 4_000_000
FIRST_RETRY_S = 0.25
LONGEST_RETRY_S = 10.0
DRAIN_S = 3.0
"""How long a process that ends waits until its events are stored."""
_BAD_EVENT = (psycopg.DataError, psycopg.IntegrityError, psycopg.OperationalError, ValueError)
"""How the database, or the way to it, refuses what an event holds. Operational: that it is too large."""
NAMED = 100
"""Ids of lost events that one line of the log names."""


class EventRecorder:
    """Takes events and stores them. Run `run` as a task and `drain` before it is cancelled."""

    def __init__(
        self,
        *,
        store: EventStore,
        metrics: ReviewMetrics,
        capacity: int = CAPACITY,
        capacity_characters: int = CAPACITY_CHARACTERS,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._capacity = capacity
        self._capacity_characters = capacity_characters
        # Apart, for those that somebody must look at are stored first and dropped last.
        self._pending: deque[Event] = deque()
        self._closed: deque[Event] = deque()
        self._characters = 0
        self._batch: Sequence[Event] = ()
        """What is being stored."""
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._lost: list[str] = []
        """Ids of events that were dropped and are not in the log yet."""

    def record(self, event: Event) -> None:
        """Take an event; returns at once."""
        (self._pending if event.pending else self._closed).append(event)
        self._characters += _size(event)
        while self._waiting() > self._capacity or self._characters > self._capacity_characters:
            self._drop(self._pop(self._closed or self._pending))
        self._empty.clear()
        self._wake.set()

    async def run(self) -> None:
        """Store events for ever."""
        retry_s = FIRST_RETRY_S
        while True:
            self._tell_of_losses()
            if not self._batch and not self._waiting():
                self._empty.set()
                await self._wake.wait()
            self._wake.clear()
            self._batch = self._batch or self._take()
            try:
                await self._write()
            except (DomainError, psycopg.Error) as error:
                _log.warning(
                    "events are not recorded yet",
                    extra={"error": type(error).__name__, "events": self._waiting() + len(self._batch)},
                )
                await asyncio.sleep(retry_s * (0.5 + random.random()))
                retry_s = min(retry_s * 2, LONGEST_RETRY_S)
            else:
                retry_s = FIRST_RETRY_S

    async def drain(self) -> None:
        """Wait until everything is stored, for a while."""
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._empty.wait()
        except TimeoutError:
            for event in (*self._batch, *self._pending, *self._closed):
                self._drop(event)
            self._batch = ()
            self._pending.clear()
            self._closed.clear()
        self._tell_of_losses()

    async def _write(self) -> None:
        try:
            await self._store.record(self._batch)
        except _BAD_EVENT as error:
            if len(self._batch) > 1:
                # One of them cannot be stored; it must not hold up the others.
                await self._write_one_by_one()
                return
            _log.error("an event cannot be recorded", extra={"error": type(error).__name__})
            self._drop(self._batch[0])
        else:
            self._metrics.recorded(self._batch)
        self._batch = ()

    async def _write_one_by_one(self) -> None:
        rest = self._batch
        while rest:
            self._batch = rest[:1]
            try:
                await self._write()
            finally:
                rest = rest[1:]
                self._batch = (*self._batch, *rest)

    def _take(self) -> Sequence[Event]:
        batch: list[Event] = []
        characters = 0
        while (queue := self._pending or self._closed) and len(batch) < BATCH:
            characters += _size(queue[0])
            if batch and characters > BATCH_CHARACTERS:
                break
            batch.append(self._pop(queue))
        return batch

    def _pop(self, queue: deque[Event]) -> Event:
        event = queue.popleft()
        self._characters -= _size(event)
        return event

    def _waiting(self) -> int:
        return len(self._pending) + len(self._closed)

    def _drop(self, event: Event) -> None:
        self._metrics.dropped(event)
        self._lost.append(event.event_id)

    def _tell_of_losses(self) -> None:
        if self._lost:
            _log.error("events are lost", extra={"count": len(self._lost), "event_ids": self._lost[:NAMED]})
            self._lost.clear()


def _size(event: Event) -> int:
    return len(event.text or "")
