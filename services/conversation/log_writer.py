"""Stores the logs of the generations that run here, before their readers see them.

All that has become ready since the last round trip goes to Redis as one. It has gathered before, on its way through
moderation, so there is no further wait. While Redis is away the readers that are connected here get their events all
the same, and are told that they could not resume; what was not stored is stored when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from services.conversation.generation_log import Entry, GenerationLog, Notice, NoticeKind
from services.conversation.log_store import NO_ENTRY, Append, LogId, LogStore, LogUnavailableError

_log = logging.getLogger(__name__)

PROBE_S = 0.5
"""How often a Redis that is away is asked whether it is back."""

MAX_BEHIND = 1000
"""Logs that have ended and are kept for a Redis that is away; the database has their answers."""

MAX_ROUNDS = 3
"""Tries to append to logs that do not end where they were expected to."""

Gap = Callable[[Sequence[str], bool], Awaitable[bool]]
"""Told of generations whose stored log lacks what their readers see, and when it lacks nothing any more.

Returns whether that was written down.
"""
Confirm = Callable[[], Awaitable[bool]]
"""Returns whether it is sure, without Redis, that this process may still append to the logs it has."""


class LogWriter:
    """Writes the logs that were opened here. Run `run` as a task."""

    def __init__(self, *, store: LogStore, on_gap: Gap, confirm: Confirm) -> None:
        self._store = store
        self._on_gap = on_gap
        self._confirm = confirm
        self._open: dict[str, GenerationLog] = {}
        self._dirty: dict[str, GenerationLog] = {}
        self._wake = asyncio.Event()
        self._available = True
        self._gaps: set[str] = set()
        """Generations of which the database says that their stored log lacks something."""
        self._last: dict[str, LogId] = {}
        """By generation, the entry that its stored log ends in."""
        self._told: set[str] = set()
        """Generations whose readers were told that they cannot be resumed."""

    @property
    def available(self) -> bool:
        """Whether logs are being stored."""
        return self._available

    def find(self, generation_id: str) -> GenerationLog | None:
        """The log of a generation that runs here."""
        return self._open.get(generation_id)

    def open(
        self,
        generation_id: str,
        *,
        on_move: Callable[[], None],
        epoch: int = 1,
        entries: Sequence[Entry] = (),
    ) -> GenerationLog:
        """The log of a generation that runs here.

        Args:
            generation_id: The generation.
            on_move: Called when another server appends to it, and this one must not any more.
            epoch: That of this server.
            entries: What the log has from before.
        """
        earlier = self._open.get(generation_id)
        if earlier is not None:
            # Lost to another server and taken back, before it was noticed.
            self.give_up(earlier)
        log = GenerationLog(generation_id, epoch=epoch, entries=entries, on_append=self._appended, on_move=on_move)
        if not log.closed:
            self._open[generation_id] = log
            self._last[generation_id] = LogId(epoch, 0) if epoch > 1 else NO_ENTRY
        return log

    def close(self, log: GenerationLog) -> None:
        """Forget a log to which nothing will be appended here."""
        if self._open.get(log.generation_id) is log:
            del self._open[log.generation_id]
            self._last.pop(log.generation_id, None)

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = self._dirty, {}
            logs = [log for log in dirty.values() if not log.moved]
            for log in logs:
                log.seal()
            if self._available:
                try:
                    await self._write(logs)
                except LogUnavailableError:
                    await self._go_on_without(logs)
            else:
                await self._publish_unstored(logs)

    async def probe(self) -> None:
        """Look for a Redis that is away, for ever, and catch up when it is back."""
        while True:
            await asyncio.sleep(PROBE_S)
            try:
                if not self._available:
                    await self._catch_up()
                elif self._gaps:
                    await self._close_gaps()
            except LogUnavailableError:
                continue

    async def _catch_up(self) -> None:
        await self._store.check()
        behind = list(self._open.values())
        for log in behind:
            log.seal()
        await self._write(behind)
        self._available = True
        self._told.clear()
        _log.info("the log's store is back", extra={"generations": len(behind)})
        for log in list(self._open.values()):
            if not log.ended:
                log.append(Notice(NoticeKind.RESUME_AVAILABLE))
            else:
                self._appended(log)

    async def _close_gaps(self) -> None:
        logs = {generation_id: self._open.get(generation_id) for generation_id in self._gaps}
        whole = [id_ for id_, log in logs.items() if log is None or log.stored == len(log.entries)]
        if whole and await self._on_gap(whole, False):
            self._gaps.difference_update(whole)

    def _appended(self, log: GenerationLog) -> None:
        self._dirty[log.generation_id] = log
        self._wake.set()

    async def _write(self, logs: Sequence[GenerationLog]) -> None:
        """Store what is new of some logs, and publish it.

        Raises:
            LogUnavailableError: Nothing more is stored; what was may be.
        """
        if any(self._last.get(log.generation_id) == NO_ENTRY for log in logs):
            # Where Redis has nothing of a log it fences nobody.
            await self._require_confirmed()
        for _ in range(MAX_ROUNDS):
            batch = [(log, self._unstored(log)) for log in logs if log.stored < len(log.entries) and not log.moved]
            if not batch:
                return
            found = await self._store.append([append for _, append in batch])
            behind = [
                log for (log, append), last in zip(batch, found, strict=True) if not self._settle(log, append, last)
            ]
            if not behind:
                return
            # Redis has lost entries, and with them maybe who may append; we have all of it.
            await self._require_confirmed()
            logs = behind
        raise LogUnavailableError

    def _unstored(self, log: GenerationLog) -> Append:
        return Append(
            log.generation_id, log.epoch, log.entries[log.stored :], self._last.get(log.generation_id, NO_ENTRY)
        )

    def _settle(self, log: GenerationLog, append: Append, found: LogId | None) -> bool:
        """Take what became of an append; False when the log has to be appended to again from another place."""
        if log.moved:
            return True
        if found is None:
            log.stored += len(append.entries)
            self._last[log.generation_id] = append.id
            log.publish(log.stored)
            if log.closed and log.stored == len(log.entries):
                self.close(log)
            return True
        if found.epoch > log.epoch:
            _log.warning("generation was taken over", extra={"generation_id": log.generation_id, "epoch": log.epoch})
            self.give_up(log)
            return True
        self._last[log.generation_id] = found
        log.stored = sum(1 for entry in log.entries if LogId(entry.epoch, entry.seq) <= found)
        return False

    async def _require_confirmed(self) -> None:
        if not await self._confirm():
            raise LogUnavailableError

    def give_up(self, log: GenerationLog) -> None:
        """Another server owns the generation."""
        self.close(log)
        log.move()

    async def _go_on_without(self, logs: Sequence[GenerationLog]) -> None:
        self._available = False
        _log.warning("the log's store is away", extra={"generations": len(self._open)})
        self._tell(list(self._open.values()))
        await self._publish_unstored(logs)

    def _tell(self, logs: Sequence[GenerationLog]) -> None:
        """Say in logs, once in each, that they cannot be resumed; those that have only just begun too."""
        for log in logs:
            if log.entries and not log.ended and log.generation_id not in self._told:
                self._told.add(log.generation_id)
                log.append(Notice(NoticeKind.RESUME_UNAVAILABLE))

    async def _publish_unstored(self, logs: Sequence[GenerationLog]) -> None:
        """Show what cannot be stored, once it is sure that it is still ours to show, and that the database says so.

        Somebody who takes the generation over must know that its log lacks something. So with both away nothing is
        shown; it gathers.
        """
        sure = await self._confirm()
        new = {log.generation_id for log in logs if not log.moved and not log.closed} - self._gaps
        if sure and new and await self._on_gap(list(new), True):
            self._gaps |= new
        shown = (
            [log for log in logs if not log.moved and (log.closed or log.generation_id in self._gaps)] if sure else []
        )
        for log in shown:
            log.publish(len(log.entries))
        self._tell(shown)
        held = [log for log in logs if log not in shown and not log.moved]
        if held:
            await asyncio.sleep(PROBE_S)
            for log in held:
                self._appended(log)
        ended = [log for log in self._open.values() if log.closed]
        for log in ended[: max(0, len(ended) - MAX_BEHIND)]:
            self.close(log)
