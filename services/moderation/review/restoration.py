"""Gives back what a reviewer has found right, and refuses for good what was held and found wrong.

The decision is stored first, with the note that nobody has been told. What was not told when Redis was away, or this
process ended, is told later, by whichever process sees it: perhaps twice, which the readers allow for.
"""

from __future__ import annotations

import asyncio
import logging

import psycopg

from services.moderation.late.publisher import LatePublisher
from services.moderation.review.metrics import ReviewMetrics
from services.moderation.review.store import EventStore
from services.runtime.errors import DomainError

_log = logging.getLogger(__name__)

SWEEP_S = 10.0
"""How often it is looked for decisions that another process left behind."""
FIRST_RETRY_S = 0.25


class Restoration:
    """Publishes decisions. Run `run` as a task."""

    def __init__(self, *, store: EventStore, publisher: LatePublisher, metrics: ReviewMetrics) -> None:
        self._store = store
        self._publisher = publisher
        self._metrics = metrics
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        """Say that something was decided."""
        self._wanted.set()

    async def run(self) -> None:
        """Publish for ever."""
        retry_s = FIRST_RETRY_S
        while True:
            if await self.sweep():
                wait_s, retry_s = SWEEP_S, FIRST_RETRY_S
            else:
                wait_s, retry_s = retry_s, min(retry_s * 2, SWEEP_S)
            try:
                async with asyncio.timeout(wait_s):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()

    async def sweep(self) -> bool:
        """Publish all that is there. Returns whether that was possible."""
        try:
            while verdicts := await self._store.unpublished():
                for verdict in verdicts:
                    await self._publisher.publish(verdict)
                    await self._store.published(verdict.event_id)
                    self._metrics.restored(verdict.category)
        except (DomainError, psycopg.Error) as error:
            _log.warning("decisions are not published yet", extra={"error": type(error).__name__})
            return False
        return True
