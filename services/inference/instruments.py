"""What is measured of every generation, under the names of OpenTelemetry's GenAI conventions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from services.inference.admission import Refusal
from services.inference.model import End, FinishReason, GenerationRequest, LoadedModel, Priority
from services.runtime.errors import DomainError, Reason
from services.runtime.telemetry import Telemetry, parent_context

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SECONDS_PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_MODEL = "gen_ai.response.model"
_TOKENS = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536)


class Instruments:
    """Histograms and spans of generations. Recorded once per generation, never per token."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._tracer: Tracer = telemetry.tracer
        self._meter: Meter = telemetry.meter
        self._duration = self._meter.create_histogram(
            "gen_ai.server.request.duration",
            unit="s",
            description="From the start of a generation to its end, the wait for a slot included.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._first_token = self._meter.create_histogram(
            "gen_ai.server.time_to_first_token",
            unit="s",
            description="From the start of a generation to its first token, the wait for a slot included.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._per_token = self._meter.create_histogram(
            "gen_ai.server.time_per_output_token",
            unit="s",
            description="Mean time between the tokens of an answer, after the first.",
            explicit_bucket_boundaries_advisory=_SECONDS_PER_TOKEN,
        )
        self._tokens = self._meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Tokens of prompts and of answers.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._queue = self._meter.create_histogram(
            "chatmesh.inference.queue.duration",
            unit="s",
            description="Wait for a slot, by priority; of what was turned away after a wait, too.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._refused = self._meter.create_counter(
            "chatmesh.inference.refused", description="Generations that were not started, by reason."
        )

    def observe(self, models: Callable[[], Iterable[LoadedModel]]) -> None:
        """Show what runs and waits on each model, and how full its KV cache is."""

        def gauge(name: str, description: str, read: Callable[[LoadedModel], Iterable[Observation]]) -> None:
            def observations(_: CallbackOptions) -> Iterable[Observation]:
                return [observation for model in models() for observation in read(model)]

            self._meter.create_observable_gauge(name, callbacks=[observations], description=description)

        def running(model: LoadedModel) -> Iterable[Observation]:
            yield Observation(model.running, {_MODEL: model.name})

        def queued(model: LoadedModel) -> Iterable[Observation]:
            waiting = {waiting.priority: waiting.queued for waiting in model.waiting}
            for priority in Priority:
                yield Observation(waiting.get(priority, 0), {_MODEL: model.name, **_label(priority)})

        def kv_cache_usage(model: LoadedModel) -> Iterable[Observation]:
            yield Observation(model.kv_cache_usage, {_MODEL: model.name})

        gauge("chatmesh.inference.running", "Generations that run.", running)
        gauge("chatmesh.inference.queued", "Generations that wait for a slot, by priority.", queued)
        gauge("chatmesh.inference.kv_cache.usage", "Share of the KV cache that is in use, 0 to 1.", kv_cache_usage)

        def kv_blocks(_: CallbackOptions) -> Iterable[Observation]:
            for model in models():
                yield Observation(model.kv_blocks_stored, {_MODEL: model.name, "event": "stored"})
                yield Observation(model.kv_blocks_removed, {_MODEL: model.name, "event": "removed"})

        self._meter.create_observable_counter(
            "chatmesh.inference.kv_cache.blocks",
            unit="{block}",
            callbacks=[kv_blocks],
            description="Blocks of the KV cache: those kept for later prompts, and of them those that had to go.",
        )

    def begin(self, request: GenerationRequest, engine: str) -> Span:
        """The span of a generation, in the trace of its turn."""
        sampling = request.sampling
        attributes: dict[str, str | int | float] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": engine,
            "gen_ai.request.model": request.model,
            "gen_ai.response.id": request.generation_id,
            **_label(request.priority),
        }
        for name in ("max_tokens", "temperature", "top_p", "seed"):
            value = getattr(sampling, name)
            if value is not None:
                attributes[f"gen_ai.request.{name}"] = value
        return self._tracer.start_span(
            f"chat {request.model}",
            context=parent_context(request.traceparent, ""),
            kind=SpanKind.INTERNAL,
            attributes=attributes,
        )

    def refused(self, model: str, reason: str, **labels: str) -> None:
        """Count a generation that was not started."""
        self._refused.add(1, {_MODEL: model, "error.type": reason, **labels})

    def overloaded(self, model: str, refusal: Refusal, priority: Priority) -> None:
        """Count a generation that got no slot."""
        labels = {**_label(priority), "chatmesh.refusal": refusal.value}
        self.refused(model, Reason.OVERLOADED.value, **labels)

    def embedded(
        self,
        *,
        model: str,
        engine: str,
        priority: Priority,
        duration_s: float,
        wait_s: float,
        prompt_tokens: int,
        error: DomainError | None,
    ) -> None:
        """Record an embedding that ended."""
        attributes = {"gen_ai.operation.name": "embeddings", "gen_ai.provider.name": engine, _MODEL: model}
        outcome = attributes if error is None else {**attributes, "error.type": error.reason.value}
        self._duration.record(duration_s, outcome)
        self._queue.record(wait_s, {**outcome, **_label(priority)})
        if error is None:
            self._tokens.record(prompt_tokens, {**attributes, "gen_ai.token.type": "input"})

    def finish(
        self,
        span: Span,
        *,
        model: str,
        engine: str,
        priority: Priority,
        end: End,
        duration_s: float,
        ttft_s: float | None,
        decode_s: float,
    ) -> None:
        """Record a generation that ended."""
        usage = end.usage
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": engine, _MODEL: model}
        outcome = dict(attributes)
        if end.error is not None:
            outcome["error.type"] = end.error.reason.value
            span.set_status(Status(StatusCode.ERROR))
            span.set_attribute("error.type", end.error.reason.value)
        self._duration.record(duration_s, outcome)
        self._queue.record(end.queue_ms / 1000, {**outcome, **_label(priority)})
        if ttft_s is not None:
            self._first_token.record(ttft_s, attributes)
        if usage.completion_tokens > 1:
            self._per_token.record(decode_s / (usage.completion_tokens - 1), attributes)
        self._tokens.record(usage.prompt_tokens, {**attributes, "gen_ai.token.type": "input"})
        self._tokens.record(usage.completion_tokens, {**attributes, "gen_ai.token.type": "output"})
        span.set_attributes(
            {
                _MODEL: model,
                "gen_ai.response.finish_reasons": [end.finish_reason.value],
                "gen_ai.usage.input_tokens": usage.prompt_tokens,
                "gen_ai.usage.output_tokens": usage.completion_tokens,
                "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
                "chatmesh.queue_ms": end.queue_ms,
            }
        )
        if end.finish_reason is not FinishReason.ERROR and ttft_s is not None:
            span.set_attribute("chatmesh.time_to_first_token_ms", ttft_s * 1000)
        span.end()


def _label(priority: Priority) -> dict[str, str]:
    return {"chatmesh.priority": priority.name.lower()}
