"""How fast the synthetic engine is, which a file may change while it runs."""

from __future__ import annotations

import math
from pathlib import Path

from services.inference.engines.synthetic_options import SyntheticOptions

_LOOK_EVERY_S = 1.0


class Pace:
    """Times of one engine, in seconds. `now` is the event loop's time."""

    __slots__ = ("_factor", "_file", "_first_token_s", "_look_at", "_prefill_s", "_step_s")

    def __init__(self, options: SyntheticOptions) -> None:
        self._step_s = 1 / options.tokens_per_second if options.tokens_per_second else 0.0
        self._first_token_s = options.time_to_first_token_ms / 1000
        self._prefill_s = 1 / options.prefill_tokens_per_second if options.prefill_tokens_per_second else 0.0
        self._file = options.slow_file
        self._factor = 1.0
        self._look_at = -math.inf

    def step_s(self, now: float) -> float:
        """Between two tokens of an answer; 0 is none."""
        if self._file is None:
            return self._step_s
        return self._step_s * self._slowness(self._file, now)

    def first_token_s(self, now: float, *, uncached_tokens: int) -> float:
        """From the start of an answer to its first token."""
        first_s = self._first_token_s + self._prefill_s * uncached_tokens
        return first_s if self._file is None else first_s * self._slowness(self._file, now)

    def _slowness(self, file: Path, now: float) -> float:
        if now >= self._look_at:
            self._look_at = now + _LOOK_EVERY_S
            self._factor = _read(file)
        return self._factor


def _read(file: Path) -> float:
    # What is no positive number is taken for a file that is being written.
    try:
        factor = float(file.read_text())
    except (OSError, ValueError):
        return 1.0
    return factor if math.isfinite(factor) and factor > 0 else 1.0
