"""What is measured of every generation, under the names of OpenTelemetry's GenAI conventions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from services.inference.model import End, FinishReason, GenerationRequest, LoadedModel
from services.runtime.telemetry import Telemetry, parent_context

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SECONDS_PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
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
            description="Wait for a slot.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._refused = self._meter.create_counter(
            "chatmesh.inference.refused", description="Generations that were not started, by reason."
        )

    def observe(self, models: Callable[[], Iterable[LoadedModel]]) -> None:
        """Show running and waiting generations of each model."""

        def observations(field: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
            return lambda _: [
                Observation(getattr(model, field), {"gen_ai.response.model": model.name}) for model in models()
            ]

        for field, text in (("running", "Generations that run."), ("queued", "Generations that wait for a slot.")):
            self._meter.create_observable_gauge(
                f"chatmesh.inference.{field}", callbacks=[observations(field)], description=text
            )

    def begin(self, request: GenerationRequest, engine: str) -> Span:
        """The span of a generation, in the trace of its turn."""
        sampling = request.sampling
        attributes: dict[str, str | int | float] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": engine,
            "gen_ai.request.model": request.model,
            "gen_ai.response.id": request.generation_id,
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

    def refused(self, model: str, reason: str) -> None:
        """Count a generation that was not started."""
        self._refused.add(1, {"gen_ai.response.model": model, "error.type": reason})

    def finish(
        self, span: Span, *, model: str, engine: str, end: End, duration_s: float, ttft_s: float | None, decode_s: float
    ) -> None:
        """Record a generation that ended."""
        usage = end.usage
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": engine, "gen_ai.response.model": model}
        outcome = dict(attributes)
        if end.error is not None:
            outcome["error.type"] = end.error.reason.value
            span.set_status(Status(StatusCode.ERROR))
            span.set_attribute("error.type", end.error.reason.value)
        self._duration.record(duration_s, outcome)
        self._queue.record(end.queue_ms / 1000, attributes)
        if ttft_s is not None:
            self._first_token.record(ttft_s, attributes)
        if usage.completion_tokens > 1:
            self._per_token.record(decode_s / (usage.completion_tokens - 1), attributes)
        self._tokens.record(usage.prompt_tokens, {**attributes, "gen_ai.token.type": "input"})
        self._tokens.record(usage.completion_tokens, {**attributes, "gen_ai.token.type": "output"})
        span.set_attributes(
            {
                "gen_ai.response.model": model,
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
