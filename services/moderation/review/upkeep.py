"""Keeps the records no longer than they may be kept."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import timedelta

import psycopg

from services.moderation.late.publisher import LatePublisher
from services.moderation.review.metrics import ReviewMetrics
from services.moderation.review.store import EventStore
from services.runtime.errors import DomainError

_log = logging.getLogger(__name__)

EVERY_S = 30.0


class Upkeep:
    """Forgets texts whose time is over, deletes old events, and says how long the queue is. Run `run` as a task."""

    def __init__(
        self,
        *,
        store: EventStore,
        publisher: LatePublisher,
        metrics: ReviewMetrics,
        events_kept: Callable[[], timedelta],
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._metrics = metrics
        self._events_kept = events_kept

    async def run(self) -> None:
        """Do it for ever."""
        while True:
            await self.sweep()
            # Not all processes at the same moment.
            await asyncio.sleep(EVERY_S * (0.5 + random.random()))

    async def sweep(self) -> None:
        """Do it once."""
        try:
            forgotten = await self._store.forget_texts()
            deleted = await self._store.delete_older(self._events_kept())
            self._metrics.queue(*await self._store.queue())
            if forgotten or deleted:
                _log.info("records are over", extra={"texts": forgotten, "events": deleted})
            await self._publisher.trim()
        except (DomainError, psycopg.Error) as error:
            _log.warning("old records stay for now", extra={"error": type(error).__name__})
