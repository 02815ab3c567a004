"""What the evaluation asks of a judge, so that it measures any that gives this answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.moderation.model import Direction, Layer

LAYERS = (Layer.RULES, Layer.ATTACKS, Layer.CLASSIFIER)
"""The layers that are evaluated, cheap first; each can be switched off. The guard model is none: it needs a mesh."""


@dataclass(frozen=True, slots=True)
class LayerJudgement:
    """What one layer says of a text."""

    score: float
    flagged: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class FoundSpan:
    """A stretch of a text that a rule found, `[start, end)` in code points."""

    entity: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Judged:
    """What all layers say of a text.

    Attributes:
        score: The greatest of the layers' scores, 0 to 1.
        flagged: Whether the policy would do more than let it pass.
        tier: What decided: rules, attacks, linear, encoder.
        layers: What each layer says that was asked.
    """

    score: float
    flagged: bool
    tier: str
    layers: Mapping[str, LayerJudgement]


class Judging(Protocol):
    """Judges texts as the service does, one at a time."""

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of what judges, such as `policy` and `classifier`."""
        ...

    @property
    def entities(self) -> frozenset[str]:
        """The entities that it looks for, by the names that `find` uses."""
        ...

    def judge(self, text: str, direction: Direction) -> Judged:
        """Judge a text for harm and attacks."""
        ...

    def find(self, text: str) -> Sequence[FoundSpan]:
        """Find personal data and secrets, also those that the policy lets pass."""
        ...
