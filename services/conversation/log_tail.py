"""Follows logs that other servers write.

However many clients watch a generation here, its log is read once; each of them has a position in the same copy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from services.conversation.generation_log import Entry, GenerationLog
from services.conversation.log_store import LogStore, LogUnavailableError

_log = logging.getLogger(__name__)

BLOCK_MS = 50
"""How long one read waits for news; a log that is followed from now on waits at most so long to be part of it."""
GATHER_S = 0.005
"""Between two reads, so that what comes to many logs is read together."""
RETRY_S = 0.2
_AT_ONCE_MS = 1
"""Redis takes 0 for ever."""


class _Copy:
    def __init__(self, generation_id: str) -> None:
        self.log = GenerationLog(generation_id)
        self.last_id = "0"
        self.readers = 0
        self.given_up = False
        """What is stored cannot be read here; its readers get the end from the database."""


class LogTail:
    """Copies of the logs that somebody here watches. Run `run` as a task."""

    def __init__(self, *, store: LogStore) -> None:
        self._store = store
        self._copies: dict[str, _Copy] = {}
        self._wanted = asyncio.Event()

    @asynccontextmanager
    async def follow(self, generation_id: str) -> AsyncIterator[GenerationLog]:
        """A log that grows as another server writes it; empty as long as there is none."""
        copy = self._copies.get(generation_id)
        if copy is None:
            copy = self._copies[generation_id] = _Copy(generation_id)
            self._wanted.set()
        copy.readers += 1
        try:
            yield copy.log
        finally:
            copy.readers -= 1
            if not copy.readers and self._copies.get(generation_id) is copy:
                del self._copies[generation_id]

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            asked = {id_: copy for id_, copy in self._copies.items() if not copy.log.closed and not copy.given_up}
            if not asked:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            try:
                news = await self._follow(asked)
            except LogUnavailableError:
                # Its readers know how long they want to wait.
                await asyncio.sleep(RETRY_S)
                continue
            for generation_id, (last_id, entries) in news.items():
                # Not a copy that was made meanwhile: what came before this is not in the reply.
                copy = asked[generation_id]
                copy.last_id = last_id
                copy.log.extend(entries)
            await asyncio.sleep(GATHER_S)

    async def _follow(self, asked: Mapping[str, _Copy]) -> Mapping[str, tuple[str, Sequence[Entry]]]:
        after = {id_: copy.last_id for id_, copy in asked.items()}
        try:
            return await self._store.follow(after, block_ms=BLOCK_MS)
        except LogUnavailableError:
            raise
        except Exception:  # noqa: BLE001 - one log that cannot be read must not end all others
            news: dict[str, tuple[str, Sequence[Entry]]] = {}
        for id_, last_id in after.items():
            try:
                news |= await self._store.follow({id_: last_id}, block_ms=_AT_ONCE_MS)
            except LogUnavailableError:
                raise
            except Exception:  # noqa: BLE001 - see above
                _log.exception("a log cannot be read", extra={"generation_id": id_})
                asked[id_].given_up = True
        return news
