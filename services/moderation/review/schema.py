"""Brings the schema up to date without keeping the checks waiting: they need no database, reviewers do."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import psycopg

from services.runtime.errors import DomainError, Reason
from services.runtime.migrations import migrate
from services.runtime.settings import SettingsError

_log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parents[1] / "migrations"
RETRY_S = 5.0


class Schema:
    """Whether the tables are there. Run `migrate` as a task."""

    def __init__(self, *, url: str) -> None:
        self._url = url
        self._ready = asyncio.Event()

    async def migrate(self) -> None:
        """Migrate; try until it is done."""
        while not self._ready.is_set():
            try:
                await migrate(self._url, schema="moderation", directory=MIGRATIONS)
            except (SettingsError, psycopg.Error, OSError) as error:
                # What it says of a file or of a right is for operators, and nothing of it comes from a user.
                _log.error("the review queue has no tables yet", extra={"error": f"{type(error).__name__}: {error}"})
                await asyncio.sleep(RETRY_S)
            else:
                self._ready.set()

    async def wait(self) -> None:
        """Wait until the tables are there."""
        await self._ready.wait()

    def require(self) -> None:
        """Ask this before the tables are used for somebody who waits.

        Raises:
            DomainError: DEPENDENCY_UNAVAILABLE when they are not there yet.
        """
        if not self._ready.is_set():
            raise DomainError(
                Reason.DEPENDENCY_UNAVAILABLE,
                "The database of the review queue is not available; try again shortly.",
                metadata={"service": "database"},
            )
