"""What the library says about itself: load of its KV cache, and blocks that were stored in it and removed.

Both come from queues that can be read once, so there is one reader of each. A round of reading ends when nothing came
for a while, and the library's iterator then gives nothing more until the next request: so the next round begins with
that. Before the first request there is nothing to read from.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from services.inference.model import EngineStats

_log = logging.getLogger(__name__)

_QUIET_S = 5.0
"""Nothing for so long ends a round."""

_CANCEL_AGAIN_S = 0.1

_DECAY = 0.98
"""Of what earlier prompts count, with each new one."""


class Monitor:
    """Reads statistics and events in the background, and keeps the newest."""

    def __init__(self, *, model: str, quiet_s: float = _QUIET_S) -> None:
        self._model = model
        self._quiet_s = quiet_s
        self._readers: list[_Reader] = []
        self._usage = 0.0
        self._hit_rate = 0.0
        self._prompt_tokens = 0.0
        self._cached_tokens = 0.0
        self._stored = 0
        self._removed = 0

    def start(self, llm: Any, *, stats: bool, events: bool) -> None:
        """Read from the library, beginning with the first request."""
        if stats:
            self._read(llm.get_stats_async, self._take_stats)
        if events:
            self._read(llm.get_kv_cache_events_async, self._take_event)

    def submitted(self) -> None:
        """A request was given to the library."""
        for reader in self._readers:
            reader.wake()

    def ended(self, *, prompt_tokens: int, cached_tokens: int) -> None:
        """A prompt was computed, a part of it from the cache."""
        self._prompt_tokens = self._prompt_tokens * _DECAY + prompt_tokens
        self._cached_tokens = self._cached_tokens * _DECAY + cached_tokens

    def stats(self) -> EngineStats:
        """The newest."""
        # What the library says of hits counts since its start; what was seen of prompts is recent.
        seen = self._cached_tokens / self._prompt_tokens if self._cached_tokens else self._hit_rate
        return EngineStats(
            kv_cache_usage=self._usage,
            kv_cache_hit_rate=min(1.0, seen),
            kv_blocks_stored=self._stored,
            kv_blocks_removed=self._removed,
        )

    async def close(self) -> None:
        """Stop reading."""
        going = {reader.task for reader in self._readers}
        while going:
            # The library waits in a way that, before Python 3.12, can miss one cancel.
            for task in going:
                task.cancel()
            _, going = await asyncio.wait(going, timeout=_CANCEL_AGAIN_S)

    def _read(self, source: Callable[..., Any], take: Callable[[Mapping[str, Any]], None]) -> None:
        self._readers.append(_Reader(source, take, model=self._model, quiet_s=self._quiet_s))

    def _take_stats(self, stats: Mapping[str, Any]) -> None:
        cache = stats.get("kvCacheStats")
        if not isinstance(cache, Mapping):
            return
        most = cache.get("maxNumBlocks") or 0
        self._usage = min(1.0, max(0.0, (cache.get("usedNumBlocks") or 0) / most)) if most else 0.0
        self._hit_rate = min(1.0, max(0.0, float(cache.get("cacheHitRate") or 0.0)))

    def _take_event(self, event: Mapping[str, Any]) -> None:
        data = event.get("data")
        if not isinstance(data, Mapping):
            return
        match data.get("type"):
            case "stored":
                self._stored += len(data.get("blocks") or ())
            case "removed":
                self._removed += len(data.get("block_hashes") or ())


class _Reader:
    """Reads one queue of the library."""

    def __init__(
        self, source: Callable[..., Any], take: Callable[[Mapping[str, Any]], None], *, model: str, quiet_s: float
    ) -> None:
        self._source = source
        self._take = take
        self._model = model
        self._quiet_s = quiet_s
        self._woken = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        """There is, or will be, something to read."""
        self._woken.set()

    async def _run(self) -> None:
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                async for entry in self._source(timeout=self._quiet_s):
                    # Some versions give several at once.
                    for part in entry if isinstance(entry, list) else (entry,):
                        if isinstance(part, Mapping):
                            self._take(part)
        except Exception as error:  # noqa: BLE001 - answers do not depend on it
            _log.warning(
                "the engine says nothing about itself any more",
                extra={"model": self._model, "error_type": type(error).__name__},
            )
