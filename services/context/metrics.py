"""What Context counts."""

from __future__ import annotations

from opentelemetry.metrics import Meter

from services.context.assemble import Effort
from services.context.model import Assembled


class ContextMetrics:
    """Counts prompts and what they took, by model: the router's name for it, so the label is from the registry."""

    def __init__(self, *, meter: Meter) -> None:
        self._prompts = meter.create_counter(
            "chatmesh.context.prompts", description="Prompts assembled, by model and whether history was left out."
        )
        self._pages = meter.create_counter("chatmesh.context.pages", description="Pages of history pulled, by model.")
        self._counted = meter.create_counter(
            "chatmesh.context.tokens_counted", description="Tokens counted by a tokenizer, cache left out, by model."
        )
        self._size = meter.create_histogram(
            "chatmesh.context.prompt_tokens",
            unit="{token}",
            description="Upper bound of the tokens of a prompt.",
            explicit_bucket_boundaries_advisory=[2**power for power in range(5, 21)],
        )

    def assembled(self, assembled: Assembled, effort: Effort) -> None:
        """A prompt is done."""
        model = {"model": effort.model}
        self._prompts.add(1, {**model, "truncated": assembled.truncated})
        self._pages.add(effort.pages, model)
        self._counted.add(effort.tokens_counted, model)
        self._size.record(assembled.prompt_tokens, model)
