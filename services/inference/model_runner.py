"""One model: its engine, who runs on it, and how fast it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from opentelemetry.trace import Span

from services.inference.admission import Admission, QueueFullError
from services.inference.engines.engine import Engine, unsupported_response_format
from services.inference.instruments import Instruments
from services.inference.model import (
    Delta,
    End,
    FinishReason,
    GenerationRequest,
    LoadedModel,
    Message,
    Role,
    Sampling,
    Sink,
    TokenCounts,
)
from services.inference.throughput import Throughput
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, Reason
from services.runtime.model_registry import ModelEntry

_TTFT_WEIGHT = 0.2
"""Of the newest generation in the moving average of the time to the first token."""

_WARM_UP_TOKENS = 2


class ModelRunner:
    """Admits generations to an engine and watches them."""

    def __init__(
        self,
        *,
        entry: ModelEntry,
        engine: Engine,
        queue_limit: int,
        clock: Clock,
        instruments: Instruments,
        on_change: Callable[[], None],
    ) -> None:
        self.entry = entry
        self._engine = engine
        self._clock = clock
        self._instruments = instruments
        self._on_change = on_change
        self._admission: Admission[_Generation] = Admission(slots=entry.slots, queue_limit=queue_limit)
        self._generations: dict[int, _Generation] = {}
        self._throughput = Throughput(clock.monotonic())
        self._ttft_ms = 0.0

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self._generations

    def load(self) -> LoadedModel:
        """The live state."""
        return LoadedModel(
            name=self.entry.name,
            engine=self.entry.engine,
            context_length=self.entry.context_length,
            running=self._admission.running,
            queued=self._admission.queued,
            slots=self.entry.slots,
            tokens_per_second=self._throughput.per_second(self._clock.monotonic()),
            time_to_first_token_ms=self._ttft_ms,
        )

    async def start(self) -> None:
        """Load the model and generate a few tokens, so that the first user does not pay for the first time.

        Raises:
            SettingsError: the model cannot be loaded.
            DomainError: it was loaded and cannot generate.
        """
        await self._engine.start()
        await self._engine.check()

    def warm_up(self, key: int, done: Callable[[End], None]) -> None:
        """Generate a few tokens past admission and metrics; `done` gets the end."""
        request = GenerationRequest(
            key=key,
            generation_id="warm-up",
            model=self.entry.name,
            messages=(Message(Role.USER, "Hello"),),
            sampling=Sampling(temperature=0, max_tokens=_WARM_UP_TOKENS),
        )
        self._engine.submit(request, lambda delta: done(delta.end) if delta.end is not None else None)

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        """Run a generation, now or when a slot is free.

        Raises:
            DomainError: OVERLOADED when the queue is full, UNSUPPORTED_RESPONSE_FORMAT for a continuation of an answer
                that must have a form: no engine can take up a grammar in the middle.
        """
        if request.continuation and request.sampling.response_format is not None:
            self._instruments.refused(self.entry.name, Reason.UNSUPPORTED_RESPONSE_FORMAT.value)
            raise unsupported_response_format(
                self.entry.name, "An answer that must have a form is not continued; generate it again from its start."
            )
        generation = _Generation(self, request, sink, self._clock.monotonic())
        try:
            runs = self._admission.offer(request.key, generation)
        except QueueFullError as error:
            self._instruments.refused(self.entry.name, Reason.OVERLOADED.value)
            raise DomainError(
                Reason.OVERLOADED,
                f"{self.entry.name} is busy and its queue is full; try again shortly.",
                metadata={"model": self.entry.name},
                retry_after_s=error.retry_after_s,
            ) from error
        self._generations[request.key] = generation
        generation.span = self._instruments.begin(request, self.entry.engine)
        if runs:
            self._run(generation)
        self._on_change()

    def cancel(self, key: int) -> None:
        """End a generation, whether it runs or waits; unknown ones are ignored."""
        waiting = self._admission.withdraw(key)
        if waiting is not None:
            waiting.on_delta(Delta(waiting.request.generation_id, "", [], 0, End(FinishReason.CANCELLED)))
        elif key in self._generations:
            self._engine.cancel(key)

    async def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        """Count tokens with the model's tokenizer."""
        return await self._engine.count_tokens(texts)

    async def check(self) -> None:
        """Whether the engine works."""
        await self._engine.check()

    async def close(self) -> None:
        """Cancel everything and unload."""
        for key in list(self._generations):
            self.cancel(key)
        await self._engine.close()

    def _run(self, generation: _Generation) -> None:
        generation.started_at = self._clock.monotonic()
        self._engine.submit(generation.request, generation.on_delta)

    def _count(self, generation: _Generation, tokens: int) -> None:
        now = self._clock.monotonic()
        if generation.first_token_at is None:
            generation.first_token_at = now
            ttft_ms = (now - generation.submitted_at) * 1000
            self._ttft_ms += (ttft_ms - self._ttft_ms) * (_TTFT_WEIGHT if self._ttft_ms else 1.0)
        generation.last_token_at = now
        self._throughput.add(tokens, now)

    def _finish(self, generation: _Generation, end: End) -> End:
        now = self._clock.monotonic()
        del self._generations[generation.request.key]
        started_at = generation.started_at
        queue_ms = ((now if started_at is None else started_at) - generation.submitted_at) * 1000
        end = replace(end, queue_ms=queue_ms)
        first = generation.first_token_at
        if generation.span is not None:
            self._instruments.finish(
                generation.span,
                model=self.entry.name,
                engine=self.entry.engine,
                end=end,
                duration_s=now - generation.submitted_at,
                ttft_s=None if first is None else first - generation.submitted_at,
                decode_s=0.0 if first is None else generation.last_token_at - first,
            )
        if started_at is not None:
            following = self._admission.release(now - started_at)
            if following is not None:
                self._run(following)
        self._on_change()
        return end


class _Generation:
    """A generation and its times, all monotonic seconds."""

    __slots__ = (
        "_runner", "_sink", "first_token_at", "last_token_at", "request", "span", "started_at", "submitted_at",
    )  # fmt: skip

    def __init__(self, runner: ModelRunner, request: GenerationRequest, sink: Sink, now: float) -> None:
        self.request = request
        self.span: Span | None = None
        self.submitted_at = now
        self.started_at: float | None = None
        self.first_token_at: float | None = None
        self.last_token_at = now
        self._runner = runner
        self._sink = sink

    def on_delta(self, delta: Delta) -> None:
        """Watch a delta and pass it on."""
        if delta.token_count:
            self._runner._count(self, delta.token_count)
        if delta.end is not None:
            delta.end = self._runner._finish(self, delta.end)
        self._sink(delta)
