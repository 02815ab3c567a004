"""This process: its models, whether it drains, and who watches it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Sequence

from services.inference.instruments import Instruments
from services.inference.model import End, GenerationRequest, ReplicaState, Sink, TokenCounts
from services.inference.model_runner import ModelRunner
from services.runtime.errors import DomainError, Reason

_log = logging.getLogger(__name__)

STATUS_INTERVAL_S = 1.0
"""A watcher hears at least this often."""
STATUS_GATHER_S = 0.2
"""And no more often than this: what changes meanwhile is said together."""
_WARM_UP_TIMEOUT_S = 60.0


class Replica:
    """The models of this process. Add runners, then `start`."""

    def __init__(self, *, replica_id: str, instruments: Instruments) -> None:
        self._replica_id = replica_id
        self._instruments = instruments
        self._runners: dict[str, ModelRunner] = {}
        self._keys = itertools.count(1)
        self._watchers: set[asyncio.Event] = set()
        self._ready = False
        self._draining = False
        self.closing = asyncio.Event()
        """Set when the streams of peers shall end."""

    def add(self, runner: ModelRunner) -> None:
        """Offer a model."""
        self._runners[runner.entry.name] = runner

    async def start(self) -> None:
        """Load all models and warm them up.

        Raises:
            SettingsError: a model cannot be loaded.
            DomainError: a model cannot generate.
        """
        for runner in self._runners.values():
            _log.info("loading", extra={"model": runner.entry.name, "engine": runner.entry.engine})
            await runner.start()
            await self._warm_up(runner)
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
            DomainError: MODEL_NOT_FOUND, DRAINING or OVERLOADED.
        """
        if self._draining:
            self._instruments.refused(request.model, Reason.DRAINING.value)
            raise DomainError(Reason.DRAINING, "This replica is draining; another one will answer.")
        self._runner(request.model).submit(request, sink)

    def cancel(self, model: str, key: int) -> None:
        """End a generation; unknown ones are ignored."""
        runner = self._runners.get(model)
        if runner is not None:
            runner.cancel(key)

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
        return ReplicaState(replica_id=self._replica_id, draining=self._draining, models=models)

    async def watch(self) -> AsyncGenerator[ReplicaState, None]:
        """The state at once, when it changes, and at least every second, until the replica closes."""
        change = asyncio.Event()
        self._watchers.add(change)
        try:
            while not self.closing.is_set():
                change.clear()
                yield self.state()
                await asyncio.sleep(STATUS_GATHER_S)
                try:
                    async with asyncio.timeout(STATUS_INTERVAL_S - STATUS_GATHER_S):
                        await change.wait()
                except TimeoutError:
                    continue
        finally:
            self._watchers.discard(change)

    async def drain(self, grace_s: float) -> None:
        """Refuse new work, let what runs come to its end for `grace_s` seconds, then end the streams."""
        self._draining = True
        self.changed()
        change = asyncio.Event()
        self._watchers.add(change)
        try:
            async with asyncio.timeout(grace_s):
                while not all(runner.idle for runner in self._runners.values()):
                    change.clear()
                    await change.wait()
        except TimeoutError:
            _log.warning("drain grace is over; what still runs is cancelled")
        finally:
            self._watchers.discard(change)
        self.closing.set()
        self.changed()

    def changed(self) -> None:
        """Wake the watchers."""
        for change in self._watchers:
            change.set()

    async def _warm_up(self, runner: ModelRunner) -> None:
        end: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        runner.warm_up(self.new_key(), lambda result: None if end.done() else end.set_result(result))
        async with asyncio.timeout(_WARM_UP_TIMEOUT_S):
            error = (await end).error
        if error is not None:
            raise error

    def _runner(self, model: str) -> ModelRunner:
        runner = self._runners.get(model)
        if runner is None:
            raise DomainError(
                Reason.MODEL_NOT_FOUND,
                f"This replica has no model {model!r}.",
                metadata={"model": model, "known_models": ",".join(sorted(self._runners))},
            )
        return runner
