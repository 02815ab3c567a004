"""This process: its models, whether it drains, and who watches it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Sequence

from services.inference.instruments import Instruments
from services.inference.model import Embeddings, GenerationRequest, Priority, ReplicaState, Sink, TokenCounts
from services.inference.model_runner import ModelRunner
from services.runtime.errors import DomainError, Reason

_log = logging.getLogger(__name__)

STATUS_INTERVAL_S = 0.5
"""A watcher hears at least this often."""
STATUS_GATHER_S = 0.1
"""And no more often than this: what changes meanwhile is said together. That it drains is said at once."""
_CANCEL_TIMEOUT_S = 1.0
"""What is cancelled ends within an engine's step; whatever does not in this time is left alone."""


class Replica:
    """The models of this process. Add runners, then `start`."""

    def __init__(self, *, replica_id: str, pool: str, zone: str, region: str, instruments: Instruments) -> None:
        self._replica_id = replica_id
        self._pool = pool
        self._zone = zone
        self._region = region
        self._instruments = instruments
        self._runners: dict[str, ModelRunner] = {}
        self._keys = itertools.count(1)
        self._watchers: set[asyncio.Event] = set()
        self._ready = False
        self._draining = asyncio.Event()
        self.closing = asyncio.Event()
        """Set when the streams of peers shall end."""

    def add(self, runner: ModelRunner) -> None:
        """Offer a model."""
        self._runners[runner.entry.name] = runner

    async def start(self) -> None:
        """Load all models and warm them up.

        Raises:
            SettingsError: a model cannot be loaded, or does not work.
        """
        for runner in self._runners.values():
            _log.info("loading", extra={"model": runner.entry.name, "engine": runner.entry.engine})
            await runner.start(self.new_key())
            _log.info("loaded", extra={"model": runner.entry.name, "engine": runner.entry.engine})
        self._instruments.observe(lambda: self.state().models)
        self._ready = True
        self.changed()

    async def close(self) -> None:
        """Cancel everything and unload the models."""
        self.closing.set()
        for runner in self._runners.values():
            await runner.close()

    def new_key(self) -> int:
        """A number that no other generation of this process has."""
        return next(self._keys)

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        """Run a generation.

        Raises:
            DomainError: MODEL_NOT_FOUND, DRAINING, OVERLOADED, UNSUPPORTED_CAPABILITY, UNSUPPORTED_RESPONSE_FORMAT.
        """
        self._refuse_when_draining(request.model)
        self._runner(request.model).submit(request, sink)

    def cancel(self, model: str, key: int) -> None:
        """End a generation; unknown ones are ignored."""
        runner = self._runners.get(model)
        if runner is not None:
            runner.cancel(key)

    async def embed(self, model: str, texts: Sequence[str], priority: Priority) -> Embeddings:
        """Turn texts into vectors.

        Raises:
            DomainError: MODEL_NOT_FOUND, DRAINING, OVERLOADED, UNSUPPORTED_CAPABILITY or ENGINE_FAILED.
        """
        self._refuse_when_draining(model)
        return await self._runner(model).embed(self.new_key(), texts, priority)

    async def count_tokens(self, model: str, texts: Sequence[str]) -> TokenCounts:
        """Count tokens.

        Raises:
            DomainError: MODEL_NOT_FOUND or ENGINE_FAILED.
        """
        return await self._runner(model).count_tokens(texts)

    async def check(self) -> None:
        """Pass when every model is loaded, warm and working.

        Raises:
            DomainError: ENGINE_FAILED.
        """
        if not self._ready:
            raise DomainError(Reason.ENGINE_FAILED, "The models are being loaded.")
        for runner in self._runners.values():
            await runner.check()

    def state(self) -> ReplicaState:
        """The live state; no models before they are warm."""
        models = tuple(runner.load() for runner in self._runners.values()) if self._ready else ()
        return ReplicaState(
            replica_id=self._replica_id,
            draining=self._draining.is_set(),
            models=models,
            pool=self._pool,
            zone=self._zone,
            region=self._region,
        )

    async def watch(self) -> AsyncGenerator[ReplicaState, None]:
        """The state at once, when it changes, and at least twice a second, until the replica closes."""
        change = asyncio.Event()
        self._watchers.add(change)
        try:
            while not self.closing.is_set():
                change.clear()
                said_draining = self._draining.is_set()
                yield self.state()
                if said_draining:
                    await asyncio.sleep(STATUS_GATHER_S)
                else:
                    await _set_within(self._draining, STATUS_GATHER_S)
                await _set_within(change, STATUS_INTERVAL_S - STATUS_GATHER_S)
        finally:
            self._watchers.discard(change)

    async def drain(self, grace_s: float) -> None:
        """Refuse new work and what waits, let what runs come to its end for `grace_s` seconds, then cancel it.

        What waits has shown nothing yet and begins sooner elsewhere. What is cancelled goes on elsewhere, too: whoever
        asked for it knows what it has got. Then the streams end.
        """
        self._draining.set()
        error = _draining()
        for runner in self._runners.values():
            runner.refuse_waiting(error)
        self.changed()
        if not await self._idle_within(grace_s):
            _log.warning("drain grace is over; what still runs is cancelled")
            for runner in self._runners.values():
                runner.cancel_all()
            await self._idle_within(_CANCEL_TIMEOUT_S)
        self.closing.set()
        self.changed()

    def changed(self) -> None:
        """Wake the watchers."""
        for change in self._watchers:
            change.set()

    async def _idle_within(self, timeout_s: float) -> bool:
        change = asyncio.Event()
        self._watchers.add(change)
        try:
            async with asyncio.timeout(timeout_s):
                while not all(runner.idle for runner in self._runners.values()):
                    change.clear()
                    await change.wait()
        except TimeoutError:
            return False
        finally:
            self._watchers.discard(change)
        return True

    def _refuse_when_draining(self, model: str) -> None:
        if self._draining.is_set():
            self._instruments.refused(model, Reason.DRAINING.value)
            raise _draining()

    def _runner(self, model: str) -> ModelRunner:
        runner = self._runners.get(model)
        if runner is None:
            raise DomainError(
                Reason.MODEL_NOT_FOUND,
                f"This replica has no model {model!r}.",
                metadata={"model": model, "known_models": ",".join(sorted(self._runners))},
            )
        return runner


def _draining() -> DomainError:
    return DomainError(Reason.DRAINING, "This replica is draining; another one will answer.")


async def _set_within(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
