"""Keeps a watch open on every inference address, so that the fleet's state is never older than a moment."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from services.router.fleet import Fleet
from services.router.model import ReplicaReport
from services.runtime.clock import Clock
from services.runtime.errors import DomainError

_log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 2.0


class StatusSource(Protocol):
    """Where reports come from."""

    def watch(self, address: str) -> AsyncIterator[ReplicaReport]:
        """The reports of the replica on this address, until the stream breaks.

        Raises:
            DomainError: when the stream breaks.
        """
        ...


class WatchFleet:
    """One task per address. A replica leaves the fleet when its stream breaks, or when it has been silent too long."""

    def __init__(
        self,
        *,
        fleet: Fleet,
        source: StatusSource,
        clock: Clock,
        addresses: Sequence[str],
        silence_s: float,
        jitter: random.Random,
    ) -> None:
        self._fleet = fleet
        self._source = source
        self._clock = clock
        self._addresses = addresses
        self._silence_s = silence_s
        self._jitter = jitter

    async def run(self) -> None:
        """Watch all addresses; for ever."""
        async with asyncio.TaskGroup() as group:
            for address in self._addresses:
                group.create_task(self._hold(address), name=f"watch {address}")

    async def _hold(self, address: str) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            reported = False
            why = "the stream ended"
            try:
                async for report in _within(self._silence_s, self._source.watch(address)):
                    if not reported:
                        reported = True
                        _log.info("replica reports", extra={"address": address, "reporter": report.replica_id})
                    self._fleet.report(address, report, now=self._clock.monotonic())
            except DomainError as error:
                why = error.message
            except TimeoutError:
                why = f"silent for {self._silence_s:g} s"
            finally:
                self._fleet.lose(address)
            if reported:
                _log.warning("replica lost", extra={"address": address, "why": why})
                backoff_s = FIRST_BACKOFF_S
            # Jitter: the routers of a mesh must not all come back to a restarted replica in the same moment.
            await asyncio.sleep(backoff_s * self._jitter.uniform(0.5, 1.0))
            backoff_s = min(LAST_BACKOFF_S, backoff_s * 2)


async def _within(silence_s: float, reports: AsyncIterator[ReplicaReport]) -> AsyncIterator[ReplicaReport]:
    """The same reports; TimeoutError when the next one takes longer than `silence_s`."""
    while True:
        try:
            async with asyncio.timeout(silence_s):
                report = await anext(reports)
        except StopAsyncIteration:
            return
        yield report
