"""The models file on disk: loaded at the start, loaded again when it changes, never replaced by a bad one."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Protocol

from services.router.experiments import Dealing
from services.router.model import LoadedRegistry
from services.runtime.clock import Clock
from services.runtime.model_registry import ModelRegistry
from services.runtime.settings import SettingsError

_log = logging.getLogger(__name__)

_Version = tuple[int, int, int] | None


class RegistrySource(Protocol):
    """Where the registry in force is found."""

    @property
    def current(self) -> LoadedRegistry:
        """The registry in force."""
        ...

    @property
    def refused(self) -> str:
        """Why what is there now is not in force; empty when it is."""
        ...


class RegistryFile:
    """The registry in force, and the watch over the file it came from."""

    def __init__(self, *, path: Path, clock: Clock) -> None:
        """Load the file.

        Raises:
            SettingsError: when it cannot be used.
        """
        self._path = path
        self._clock = clock
        self._seen = _version(path)
        self._refused = ""
        self._current = self._load()

    @property
    def current(self) -> LoadedRegistry:
        """The registry in force."""
        return self._current

    @property
    def refused(self) -> str:
        """Why the file as it is now is not in force; empty when it is."""
        return self._refused

    async def watch(self, *, interval_s: float) -> None:
        """Reload whenever the file has changed; for ever. A file that cannot be used is logged and left alone."""
        while True:
            await asyncio.sleep(interval_s)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Look at the file once, and load it if it is not the one that was seen last."""
        version = _version(self._path)
        if version == self._seen:
            return
        # Also when it turns out bad: one fault is logged once, not every second.
        self._seen = version
        try:
            self._current = self._load()
        except SettingsError as error:
            self._refused = str(error)
            _log.error("models file refused; the registry loaded before stays in force", extra={"problem": str(error)})
        else:
            self._refused = ""
            _log.info("models file loaded", extra={"models": sorted(self._current.entries)})

    def _load(self) -> LoadedRegistry:
        registry = ModelRegistry.load(self._path)
        return LoadedRegistry(
            registry=registry,
            entries={entry.name: entry for entry in registry.models},
            loaded=self._clock.now(),
            dealing=Dealing(registry.experiments),
        )


def _version(path: Path) -> _Version:
    # The inode as well: a mounted ConfigMap is replaced by a switch of links, and an editor writes a new file.
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
