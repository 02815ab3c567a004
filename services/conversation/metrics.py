"""What is measured of turns. OpenTelemetry's own metrics of generation come from the engines, in Inference."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from services.conversation.model import Outcome
from services.runtime.telemetry import Telemetry


class _Measured:
    def __init__(self) -> None:
        self.status = "cancelled"
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def outcome(self, outcome: Outcome) -> None:
        """How the turn ended."""
        self.status = outcome.status.value
        self.prompt_tokens = outcome.usage.prompt_tokens
        self.completion_tokens = outcome.usage.completion_tokens


class TurnMetrics:
    """Duration and tokens of each turn, by model and by how it ended."""

    def __init__(self, telemetry: Telemetry) -> None:
        meter = telemetry.meter
        self._duration = meter.create_histogram(
            "chatmesh.turn.duration", unit="s", description="Generating an answer, from its start on a replica."
        )
        self._tokens = meter.create_counter("chatmesh.turn.tokens", unit="{token}", description="Tokens.")
        self._running = meter.create_up_down_counter("chatmesh.turns.running", description="Turns that run now.")

    @contextmanager
    def turn(self, model: str) -> Iterator[_Measured]:
        """Measure one turn."""
        measured = _Measured()
        started = time.perf_counter()
        self._running.add(1)
        try:
            yield measured
        finally:
            self._running.add(-1)
            labels = {"gen_ai.request.model": model}
            self._duration.record(time.perf_counter() - started, {**labels, "status": measured.status})
            self._tokens.add(measured.prompt_tokens, {**labels, "gen_ai.token.type": "input"})
            self._tokens.add(measured.completion_tokens, {**labels, "gen_ai.token.type": "output"})
