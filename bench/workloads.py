"""What is asked of the mesh."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

FOLDER = Path(__file__).parent
MODELS = FOLDER / "models.yaml"
TIERS = FOLDER / "tiers.yaml"


class Surface(StrEnum):
    """The API that a workload comes by."""

    OPENAI = "openai"
    NATIVE = "native"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Streams side by side. Each asks again as soon as its answer is complete.

    A paced one (`interval_s` above 0) begins its streams spread over `ramp_s`, and is then measured for `window_s`
    while no stream begins for the first time. An unpaced one begins all at once and is measured from the first request
    to the end of the last answer, `answers` of each stream.
    """

    name: str
    model: str
    streams: int
    tokens: int
    interval_s: float = 0.0
    streaming: bool = True
    answers: int = 1
    ramp_s: float = 0.0
    window_s: float = 0.0

    @property
    def offered_per_s(self) -> float:
        """Tokens that the engine makes in a second; 0 when it is not paced."""
        return self.streams / self.interval_s if self.interval_s else 0.0

    @property
    def answers_per_stream(self) -> int:
        """The most answers that one stream can ask for."""
        if not self.interval_s:
            return self.answers
        return int((self.ramp_s + self.window_s) / (self.tokens * self.interval_s)) + 2


def _growth(streams: int) -> Workload:
    return Workload(
        name=f"G{streams}", model="pace-20ms", streams=streams, tokens=256, interval_s=0.02, ramp_s=5.2, window_s=8.0
    )


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(name="W1", model="pace-20ms", streams=64, tokens=256, interval_s=0.02, ramp_s=5.2, window_s=8.0),
        Workload(name="W2", model="unpaced", streams=64, tokens=256, answers=6),
        Workload(name="W3", model="unpaced", streams=64, tokens=16, answers=10, streaming=False),
        Workload(name="W4", model="pace-100ms", streams=1000, tokens=256, interval_s=0.1, ramp_s=12.0, window_s=10.0),
        # How the cost of a token changes with the number of streams; W1 is the point at 64.
        *map(_growth, (1, 8, 256)),
    )
}
"""By name."""
