"""One model: its engine, who runs on it, and how fast it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from opentelemetry.trace import Span

from services.inference.averages import MovingAverage
from services.inference.engines.engine import Engine, engine_failed, unsupported_capability
from services.inference.instruments import Instruments
from services.inference.model import (
    Capability,
    Delta,
    Embeddings,
    End,
    FinishReason,
    GenerationRequest,
    LoadedModel,
    Message,
    Priority,
    Role,
    Sampling,
    Sink,
    TokenCounts,
)
from services.inference.requirements import fit
from services.inference.slots import Slots
from services.inference.throughput import Throughput
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, Reason
from services.runtime.model_registry import ModelEntry
from services.runtime.settings import SettingsError

_log = logging.getLogger(__name__)

_WARM_UP_TEXT = "Hello"
_WARM_UP_TOKENS = 2
_WARM_UP_TIMEOUT_S = 60.0


class ModelRunner:
    """Admits generations and embeddings to an engine, and watches them."""

    def __init__(
        self,
        *,
        entry: ModelEntry,
        engine: Engine,
        slots: Slots,
        clock: Clock,
        instruments: Instruments,
        on_change: Callable[[], None],
    ) -> None:
        self.entry = entry
        self.capabilities: frozenset[Capability] = frozenset()
        """What its engine can do, less what the models file leaves out. Known when it has started."""
        self._engine = engine
        self._slots = slots
        self._clock = clock
        self._instruments = instruments
        self._on_change = on_change
        self._generations: dict[int, _Generation] = {}
        self._throughput = Throughput(clock.monotonic())
        # Of the same generations, so that their difference is the engine's own time.
        self._ttft_ms = MovingAverage()
        self._wait_ms = MovingAverage()
        self._completed = 0
        self._failed = 0

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self._slots.running and not self._slots.queued

    def load(self) -> LoadedModel:
        """The live state."""
        stats = self._engine.stats()
        return LoadedModel(
            name=self.entry.name,
            engine=self.entry.engine,
            context_length=self.entry.context_length,
            running=self._slots.running,
            queued=self._slots.queued,
            slots=self.entry.slots,
            tokens_per_second=self._throughput.per_second(self._clock.monotonic()),
            time_to_first_token_ms=self._ttft_ms.value,
            capabilities=self.capabilities,
            kv_cache_usage=stats.kv_cache_usage,
            kv_cache_hit_rate=stats.kv_cache_hit_rate,
            queue_wait_ms=self._wait_ms.value,
            waiting=self._slots.waiting(),
            completed=self._completed,
            failed=self._failed,
            kv_blocks_stored=stats.kv_blocks_stored,
            kv_blocks_removed=stats.kv_blocks_removed,
        )

    async def start(self, key: int) -> None:
        """Load the model and use it once, so that the first user does not pay for the first time.

        Raises:
            SettingsError: the model cannot be loaded, or does not work.
        """
        doing = "loading it"
        try:
            await self._engine.start()
            await self._engine.check()
            self.capabilities = self._choose_capabilities()
            chats = Capability.CHAT in self.capabilities
            doing = "its first answer" if chats else "its first embedding"
            async with asyncio.timeout(_WARM_UP_TIMEOUT_S):
                await (self._warm_up(key) if chats else self._engine.embed([_WARM_UP_TEXT]))
        except DomainError as error:
            raise self._broken(doing, error.message) from error
        except TimeoutError as error:
            raise self._broken(doing, f"It did not end within {_WARM_UP_TIMEOUT_S:.0f} s.") from error

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        """Run a generation, now or when a slot is free.

        Raises:
            DomainError: OVERLOADED, UNSUPPORTED_CAPABILITY, UNSUPPORTED_RESPONSE_FORMAT.
        """
        try:
            request = fit(request, model=self.entry.name, capabilities=self.capabilities)
        except DomainError as error:
            self._instruments.refused(self.entry.name, error.reason.value)
            raise
        generation = _Generation(self, request, sink, self._clock.monotonic())
        self._slots.enter(generation, timeout_s=request.queue_timeout_s)
        self._generations[request.key] = generation
        generation.span = self._instruments.begin(request, self.entry.engine)
        self._slots.serve()
        self._on_change()

    def cancel(self, key: int) -> None:
        """End a generation, whether it runs or waits; unknown ones are ignored."""
        generation = self._generations.get(key)
        if generation is None:
            return
        if self._slots.withdraw(key):
            generation.end(End(FinishReason.CANCELLED))
        else:
            self._engine.cancel(key)

    def cancel_all(self) -> None:
        """End all generations."""
        for key in list(self._generations):
            self.cancel(key)

    def refuse_waiting(self, error: DomainError) -> None:
        """End all that waits with an error."""
        self._slots.refuse_waiting(error)

    async def embed(self, key: int, texts: Sequence[str], priority: Priority) -> Embeddings:
        """Turn texts into vectors, when a slot is free.

        Raises:
            DomainError: UNSUPPORTED_CAPABILITY, OVERLOADED, DRAINING or ENGINE_FAILED.
        """
        if Capability.EMBEDDINGS not in self.capabilities:
            error = unsupported_capability(self.entry.name, Capability.EMBEDDINGS)
            self._instruments.refused(self.entry.name, error.reason.value)
            raise error
        turn = _Turn(key, priority, self._clock.monotonic())
        self._slots.enter(turn, timeout_s=None)
        self._slots.serve()
        self._on_change()
        try:
            await turn.begun
            embeddings = await self._engine.embed(texts)
        except DomainError as error:
            self._finish_embedding(turn, 0, error)
            raise
        except asyncio.CancelledError:
            self._completed += 1
            raise
        else:
            self._finish_embedding(turn, embeddings.prompt_tokens, None)
            return embeddings
        finally:
            if turn.started_at is None:
                self._slots.withdraw(key)
            else:
                self._slots.release(self._clock.monotonic() - turn.started_at)
            self._on_change()

    async def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        """Count tokens with the model's tokenizer."""
        return await self._engine.count_tokens(texts)

    async def check(self) -> None:
        """Whether the engine works."""
        await self._engine.check()

    async def close(self) -> None:
        """Cancel everything and unload."""
        self.cancel_all()
        self._slots.close()
        await self._engine.close()

    def _choose_capabilities(self) -> frozenset[Capability]:
        able = self._engine.capabilities
        if self.entry.capabilities is not None:
            wanted = frozenset(map(Capability, self.entry.capabilities))
            if lacking := sorted(capability.value for capability in wanted - able):
                _log.warning(
                    "the models file says more than the engine can do",
                    extra={"model": self.entry.name, "lacking": ",".join(lacking)},
                )
            able &= wanted
        if not able & {Capability.CHAT, Capability.EMBEDDINGS}:
            raise SettingsError(
                f"model {self.entry.name}, capabilities: neither chat nor embeddings is left of what its engine can do"
            )
        return able

    def _broken(self, doing: str, why: str) -> SettingsError:
        # A replica that cannot use one of its models never becomes ready: it ends, and says what to do.
        name = self.entry.name
        return SettingsError(
            f"model {name} (engine {self.entry.engine}): {doing} failed: {why} `chatmesh engine check --model {name}` "
            "tries it alone; correct its entry in the models file, or name only the others in CHATMESH_INFERENCE_MODELS"
        )

    async def _warm_up(self, key: int) -> None:
        """Generate a few tokens past admission and metrics."""
        ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()

        def sink(delta: Delta) -> None:
            if delta.end is not None and not ended.done():
                ended.set_result(delta.end)

        request = GenerationRequest(
            key=key,
            generation_id="warm-up",
            model=self.entry.name,
            messages=(Message(Role.USER, _WARM_UP_TEXT),),
            sampling=Sampling(temperature=0, max_tokens=_WARM_UP_TOKENS),
        )
        self._engine.submit(request, sink)
        error = (await ended).error
        if error is not None:
            raise error

    def _begin(self, generation: _Generation) -> None:
        try:
            self._engine.submit(generation.request, generation.on_delta)
        except Exception as error:  # noqa: BLE001 - whatever it is, the slot must come back
            # Its name only: its text may hold the user's.
            _log.error("engine took no generation", extra={"model": self.entry.name, "error": type(error).__name__})
            if generation.request.key in self._generations:
                generation.refuse(engine_failed(self.entry.name, "The engine failed before the answer began."))

    def _count(self, generation: _Generation, tokens: int) -> None:
        now = self._clock.monotonic()
        if generation.first_token_at is None:
            generation.first_token_at = now
            self._ttft_ms.add((now - generation.submitted_at) * 1000)
            self._wait_ms.add(generation.waited_s(now) * 1000)
        generation.last_token_at = now
        self._throughput.add(tokens, now)

    def _finish(self, generation: _Generation, end: End) -> End:
        now = self._clock.monotonic()
        del self._generations[generation.request.key]
        if generation.started_at is not None:
            self._slots.release(now - generation.started_at)
        ttft_s = generation.first_token_s()
        end = replace(end, queue_ms=generation.waited_s(now) * 1000, first_token_ms=(ttft_s or 0.0) * 1000)
        self._tally(end.error)
        if generation.span is not None:
            self._instruments.finish(
                generation.span,
                model=self.entry.name,
                engine=self.entry.engine,
                priority=generation.priority,
                end=end,
                duration_s=now - generation.submitted_at,
                ttft_s=ttft_s,
                decode_s=generation.decode_s(),
            )
        self._on_change()
        return end

    def _finish_embedding(self, turn: _Turn, prompt_tokens: int, error: DomainError | None) -> None:
        now = self._clock.monotonic()
        self._tally(error)
        self._instruments.embedded(
            model=self.entry.name,
            engine=self.entry.engine,
            priority=turn.priority,
            duration_s=now - turn.submitted_at,
            wait_s=(turn.started_at or now) - turn.submitted_at,
            prompt_tokens=prompt_tokens,
            error=error,
        )

    def _tally(self, error: DomainError | None) -> None:
        if error is None:
            self._completed += 1
        elif error.reason is Reason.ENGINE_FAILED:
            self._failed += 1


class _Generation:
    """A generation, its place among the jobs of its model, and its times, all monotonic seconds."""

    __slots__ = (
        "_runner", "_sink", "first_token_at", "key", "last_token_at", "priority", "request", "span", "started_at",
        "submitted_at",
    )  # fmt: skip

    def __init__(self, runner: ModelRunner, request: GenerationRequest, sink: Sink, now: float) -> None:
        self.request = request
        self.key = request.key
        self.priority = request.priority
        self.span: Span | None = None
        self.submitted_at = now
        self.started_at: float | None = None
        self.first_token_at: float | None = None
        self.last_token_at = now
        self._runner = runner
        self._sink = sink

    def begin(self, now: float) -> None:
        """It has a slot."""
        self.started_at = now
        self._runner._begin(self)

    def refuse(self, error: DomainError) -> None:
        """End it with an error."""
        self.end(End(FinishReason.ERROR, error=error))

    def end(self, end: End) -> None:
        """End it without the engine."""
        self.on_delta(Delta(self.request.generation_id, "", [], 0, end))

    def on_delta(self, delta: Delta) -> None:
        """Watch a delta and pass it on."""
        if delta.token_count:
            self._runner._count(self, delta.token_count)
        if delta.end is not None:
            delta.end = self._runner._finish(self, delta.end)
        self._sink(delta)

    def waited_s(self, now: float) -> float:
        """How long it has waited for a slot, or did."""
        return (now if self.started_at is None else self.started_at) - self.submitted_at

    def first_token_s(self) -> float | None:
        """From its arrival to its first token."""
        return None if self.first_token_at is None else self.first_token_at - self.submitted_at

    def decode_s(self) -> float:
        """From its first token to its last."""
        return 0.0 if self.first_token_at is None else self.last_token_at - self.first_token_at


class _Turn:
    """The place of an embedding among the jobs of its model."""

    __slots__ = ("begun", "key", "priority", "started_at", "submitted_at")

    def __init__(self, key: int, priority: Priority, now: float) -> None:
        self.key = key
        self.priority = priority
        self.submitted_at = now
        self.started_at: float | None = None
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, now: float) -> None:
        """It has a slot. Whoever waits for it may have gone in this very moment, and then gives the slot back."""
        self.started_at = now
        if not self.begun.done():
            self.begun.set_result(None)

    def refuse(self, error: DomainError) -> None:
        """It gets none."""
        if not self.begun.done():
            self.begun.set_exception(error)
