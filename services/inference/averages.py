"""Moving averages."""

from __future__ import annotations

WEIGHT = 0.2
"""Of the newest value."""


class MovingAverage:
    """The average of recent values, the newest counting most; 0 before the first."""

    __slots__ = ("known", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.known = False
        """Whether there has been a value."""

    def add(self, value: float) -> None:
        """Count a value."""
        self.value += (value - self.value) * (WEIGHT if self.known else 1.0)
        self.known = True
