"""Which generations this server owns: it says that it lives, notices what it has lost, and takes over from the dead.

A server that is silent for longer than its lease is dead to the others, also when it was only paused. Its generations
go to whoever claims them first. What it still tries to append afterwards is refused by Redis, and what it still tries
to store by the database, for both know the epoch.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Sequence

import psycopg

from services.conversation.generation_log import Entry, Failed
from services.conversation.generation_store import CLAIM, LEASE_S, GenerationStore
from services.conversation.generator import Generator
from services.conversation.loaded_turn import LoadedTurn
from services.conversation.log_store import LogStore, LogUnavailableError
from services.conversation.metrics import TurnMetrics
from services.conversation.model import OpenTurn
from services.conversation.turn import TurnRunner
from services.conversation.turn_store import GenerationMovedError, TurnStore
from services.conversation.watch import Watch
from services.runtime.errors import DomainError, Reason

_log = logging.getLogger(__name__)

BEAT_S = 1.0
LOG_PATIENCE_S = 30.0
"""How long a generation that was taken over waits for its log, when Redis is away."""
LOG_RETRY_S = 0.5
MAX_EPOCHS = 20
"""Servers that one generation may outlive; one that kills its servers must end.

Those that were drained count too, so there is room for a rolling update during a long answer.
"""
LOADING = 4
"""Generations that are read at a time, of those that are taken over; users need the database too."""
TIDY_EVERY = 60
"""Beats after which the table of the servers is tidied."""


class Ownership:
    """Keeps what this server owns. Run `run` as a task; call `start` before serving."""

    def __init__(
        self,
        *,
        generations: GenerationStore,
        store: TurnStore,
        log_store: LogStore,
        turns: TurnRunner,
        watch: Watch,
        generator: Generator,
        metrics: TurnMetrics,
    ) -> None:
        self._generations = generations
        self._store = store
        self._log_store = log_store
        self._turns = turns
        self._watch = watch
        self._generator = generator
        self._metrics = metrics
        self._beating = asyncio.Lock()
        self._alive_since: float | None = None
        """Since when this server has been alive without a gap; None while it is not."""
        self._alive_at = 0.0
        self._taking: set[str] = set()
        """Generations that are being taken over."""
        self._known_begun: set[str] = set()
        """Generations of which the database knows that something was shown."""
        self._strays: set[str] = set()
        """Generations that are this server's and that it does not run, at the last look."""
        self._hopeless: set[str] = set()
        """Generations that cannot be taken over, nor ended. They are not handed on: the next server would fail too."""
        self._loading = asyncio.Semaphore(LOADING)
        self._inherits = True
        """Until all that an earlier life of this server left is claimed."""
        self._retiring = False
        self._retired = False

    async def start(self) -> None:
        """Say that this server lives, so that others can tell when it does not, and take what its last life left.

        When the database is away, `run` does it.
        """
        await self._look()

    async def run(self) -> None:
        """Say for ever that this server lives, and take over from those that do not."""
        for beats in itertools.count():
            if beats % TIDY_EVERY == 0:
                await self._try(self._generations.tidy())
            # Not all servers at the same moment.
            await asyncio.sleep(BEAT_S * (0.9 + 0.2 * random.random()))
            await self._look()

    async def _look(self) -> None:
        await self._try(self._beat())
        await self._try(self._claim())

    def reachable_at(self, address: str) -> None:
        """Say where the other servers reach this one."""
        self._generations.address = address

    async def confirm(self) -> bool:
        """Whether it is sure that what runs here is still this server's.

        Whoever was paused for longer than the lease does not know what has happened meanwhile, and asks the database.
        """
        if asyncio.get_running_loop().time() - self._alive_at <= LEASE_S:
            return True
        return await self._try(self._beat())

    async def drain(self) -> None:
        """Take nothing over any more, let the turns end, and leave what is still open to the others, at once."""
        self._retiring = True
        self._watch.close()
        await self._turns.drain()
        async with self._beating:
            # A beat after this would make it live again.
            self._retired = True
            await self._try(self._generations.retire())

    async def mark_gap(self, generation_ids: Sequence[str], gap: bool) -> bool:
        """Say that the stored logs of these generations lack what was shown, or lack it no more.

        Returns whether that is written down.
        """
        return await self._try(self._generations.mark_gap(generation_ids, gap=gap))

    async def _try(self, work: Awaitable[None]) -> bool:
        try:
            await work
        except DomainError as error:
            _log.warning("the database does not say who owns what", extra={"reason": error.reason.value})
            return False
        except psycopg.Error as error:
            _log.warning("the database does not say who owns what", extra={"error": type(error).__name__})
            return False
        return True

    async def _beat(self) -> None:
        async with self._beating:
            if self._retired:
                return
            now = asyncio.get_running_loop().time()
            before = dict(self._turns.running)
            begun = [id_ for id_, running in before.items() if running.begun and id_ not in self._known_begun]
            owned = await self._generations.beat(begun=begun)
            self._known_begun = (self._known_begun | set(begun)) & before.keys()
            if self._alive_since is None or now - self._alive_at > 2 * BEAT_S:
                self._alive_since = now
            self._alive_at = now
        for generation_id, running in before.items():
            found = owned.get(generation_id)
            if found is not None and found.epoch == running.epoch:
                if found.stop_requested and generation_id in self._turns.running:
                    self._generator.stop(generation_id)
            elif not running.settled:
                _log.warning("generation was taken over", extra={"generation_id": generation_id})
                self._turns.lose(generation_id)
        strays = owned.keys() - self._turns.running.keys() - before.keys() - self._taking - self._hopeless
        # Twice in a row: one that has only just begun is not running yet.
        for generation_id in strays & self._strays:
            await self._generations.release(generation_id)
        self._strays = strays

    async def _claim(self) -> None:
        alive_since = self._alive_since
        # When the database was away for all, the owners need time to say that they live.
        steady = alive_since is not None and self._alive_at - alive_since > LEASE_S
        if not self._inherits and not steady:
            return
        loop = asyncio.get_running_loop()
        while not self._retiring:
            claimed = await self._generations.claim(own=self._inherits, others=steady)
            for generation_id in claimed:
                self._metrics.taken_over()
                _log.warning("took a generation over", extra={"generation_id": generation_id})
                self._taking.add(generation_id)
                self._turns.start(self._take_over(generation_id))
            if len(claimed) < CLAIM:
                self._inherits = False
                return
            if loop.time() - self._alive_at > BEAT_S:
                # There may be more, but first this server must say that it lives.
                return

    async def _take_over(self, generation_id: str) -> None:
        try:
            async with self._loading:
                loaded = await self._store.load_turn(generation_id)
            if loaded is not None:
                await self._go_on_or_end(loaded)
        except DomainError as error:
            # It is a stray now, and is claimed again.
            _log.warning("a generation is not taken over yet", extra={"reason": error.reason.value})
        except GenerationMovedError:
            _log.warning("generation was taken over", extra={"generation_id": generation_id})
        except Exception:  # noqa: BLE001 - whatever it was, it must not go from server to server for ever
            self._hopeless.add(generation_id)
            _log.exception("a generation cannot be taken over", extra={"generation_id": generation_id})
        finally:
            self._taking.discard(generation_id)

    async def _go_on_or_end(self, loaded: LoadedTurn) -> None:
        turn = loaded.turn
        try:
            # Before its log is read, for that may be what its servers die of.
            if turn.epoch <= MAX_EPOCHS:
                await self._go_on(loaded)
                return
        except (DomainError, GenerationMovedError):
            raise
        except Exception:  # noqa: BLE001 - whatever it was, the reader must get an end
            _log.exception("a generation cannot go on", extra={"generation_id": turn.generation_id})
        await self._turns.take_over(turn, loaded.sampling, (), lost=_lost(turn.generation_id))

    async def _go_on(self, loaded: LoadedTurn) -> None:
        turn = loaded.turn
        try:
            entries = await self._read_log(turn)
        except LogUnavailableError:
            await self._turns.take_over(turn, loaded.sampling, (), lost=_lost(turn.generation_id))
            return
        if entries is None:
            return
        if loaded.stop_requested:
            self._generator.stop(turn.generation_id)
        await self._turns.take_over(turn, loaded.sampling, entries, lost=_why_lost(loaded, entries))

    async def _read_log(self, turn: OpenTurn) -> Sequence[Entry] | None:
        """Shut earlier owners out and read what they left; None when a later owner is there."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + LOG_PATIENCE_S
        while True:
            try:
                return await self._log_store.fence(turn.generation_id, turn.epoch)
            except LogUnavailableError:
                if loop.time() > give_up:
                    raise
            await asyncio.sleep(LOG_RETRY_S)


def _why_lost(loaded: LoadedTurn, entries: Sequence[Entry]) -> DomainError | None:
    """Why a generation cannot go on; None when it can."""
    if entries and isinstance(entries[-1].event, Failed):
        # Its reader was told so already.
        error = entries[-1].event.error
        return DomainError(Reason(error.reason), error.message, metadata=error.metadata)
    # Without any entry Redis has lost the log, and with it what was shown.
    if loaded.log_gap or (loaded.begun and not entries):
        return _lost(loaded.turn.generation_id)
    return None


def _lost(generation_id: str) -> DomainError:
    return DomainError(
        Reason.ANSWER_LOST,
        "The server that was answering is gone, and the answer cannot be continued; regenerate it.",
        metadata={"generation_id": generation_id},
    )
