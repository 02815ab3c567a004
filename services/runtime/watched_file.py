"""A settings file on disk: loaded at the start, loaded again when it changes, never replaced by a bad one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from services.runtime.settings import SettingsError

_log = logging.getLogger(__name__)

T = TypeVar("T")

_Version = tuple[int, int, int] | None


class WatchedFile(Generic[T]):
    """What a file holds, and the watch over it.

    Args:
        path: The file.
        kind: What it is, for the log, such as "policy".
        load: Reads it; raises SettingsError when it cannot be used.
    """

    def __init__(self, path: Path, *, kind: str, load: Callable[[Path], T]) -> None:
        """Load the file.

        Raises:
            SettingsError: when it cannot be used.
        """
        self._path = path
        self._kind = kind
        self._load = load
        self._seen = _version(path)
        self._refused = ""
        self._current = load(path)

    @property
    def current(self) -> T:
        """What is in force."""
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
            self._current = self._load(self._path)
        except SettingsError as error:
            self._refused = str(error)
            _log.error(
                "%s file refused; what was loaded before stays in force", self._kind, extra={"problem": str(error)}
            )
        else:
            self._refused = ""
            _log.info("%s file loaded", self._kind)


def _version(path: Path) -> _Version:
    # The inode as well: a mounted ConfigMap is replaced by a switch of links, and an editor writes a new file.
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
