"""Scores of texts: probabilities that a text is harmful or an attack, and of what category the harm is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from services.moderation.classifier.artefact import CATEGORIES, HEADS, PACKAGED, Artefact, Fit, Floats, HeadFit
from services.moderation.classifier.encoder import Encoder
from services.moderation.classifier.features import buckets
from services.moderation.classifier.pieces import choose, cut
from services.moderation.model import Direction

Tier = Literal["linear", "encoder"]
Head = Literal["harm", "attack"]

_HARM, _ATTACK, _HARM_OUTPUT = range(len(HEADS))
_HEADS_OF = {Direction.INPUT: (_HARM, _ATTACK), Direction.OUTPUT: (_HARM_OUTPUT,)}


@dataclass(frozen=True, slots=True)
class Scores:
    """What the classifier says of a text. All are probabilities.

    Attributes:
        harm: That the text is harmful: of an input that it asks for harm or does it, of an output that it helps it.
        attack: That an input tries to get around the model's instructions. 0 for an output.
        categories: The likeliest one has the whole of `harm`, the others less in proportion.
        tier: The last model that looked.
    """

    harm: float
    attack: float
    categories: Mapping[str, float]
    tier: Tier


_NOTHING = Scores(0.0, 0.0, dict.fromkeys(CATEGORIES, 0.0), "linear")
"""Of a text without any."""


class Classifier:
    """The trained classifier. Loading takes most of a second, and `classify` milliseconds: call both in a thread."""

    def __init__(self, *, artefact: Artefact, encoder: Encoder) -> None:
        self._artefact = artefact
        self._linear = np.ascontiguousarray(artefact.linear.T)
        self._encoder = encoder

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Load the model of a .safetensors file, or the packaged one.

        Raises:
            SettingsError: saying what is wrong and what to do.
        """
        artefact = Artefact.read(path or PACKAGED)
        return cls(artefact=artefact, encoder=Encoder.load(artefact))

    @property
    def version(self) -> str:
        """The model's name, another for every training."""
        return self._artefact.description.version

    def threshold(self, direction: Direction, head: Head, point: str, *, streamed: bool = False) -> float:
        """The probability that, of harmless texts, only the share that `point` names reaches.

        `streamed`: of an answer that is looked at many times while it grows, once is enough to reach it.

        Raises:
            KeyError: there is no such point; the text names those that there are.
        """
        stream = f"{direction.value}_stream" if streamed else direction.value
        points = self._artefact.description.points[stream][head]
        if point not in points:
            raise KeyError(f"{point}; there are {', '.join(points)}")
        return points[point]

    def classify(self, texts: Sequence[str], direction: Direction, *, quick: bool = False) -> list[Scores]:
        """Scores of each text. The work for one is bounded, however long it is.

        `quick`: the encoder reads only what the linear model finds suspicious, and not all that it is unsure of.
        """
        pieces = [cut(text) for text in texts]
        linear = [self.linear_scores(parts) for parts in pieces]
        unsure = [
            at
            for at, rows in enumerate(linear)
            if texts[at].strip() and not self._sure(rows.max(axis=0), direction, quick=quick)
        ]
        steering = _HEADS_OF[direction]
        chosen = [[pieces[at][place] for place in choose(linear[at][:, steering].max(axis=1))] for at in unsure]
        read = dict(zip(unsure, self._encoder.score(chosen) if chosen else [], strict=True))
        return [
            self._scores(rows.max(axis=0), read.get(at), direction) if texts[at].strip() else _NOTHING
            for at, rows in enumerate(linear)
        ]

    def linear_scores(self, pieces: Sequence[str]) -> Floats:
        """Scores of the linear model: a row per piece, a column per head."""
        rows = np.zeros((len(pieces), len(HEADS)), dtype=np.float32)
        for at, piece in enumerate(pieces):
            found = buckets(piece)
            if len(found):
                rows[at] = self._linear[found].sum(axis=0) / np.float32(math.sqrt(len(found)))
        return rows + self._artefact.linear_bias

    def _sure(self, linear: Floats, direction: Direction, *, quick: bool) -> bool:
        """Whether the linear model needs no second opinion: it never does when it sees harm."""
        fits = self._artefact.description.heads
        return all(linear[head] < _alone_below(fits[HEADS[head]], quick=quick) for head in _HEADS_OF[direction])

    def _scores(self, linear: Floats, windows: Floats | None, direction: Direction) -> Scores:
        harm_head = _HEADS_OF[direction][0]
        harm = self._probability(harm_head, linear, windows)
        attack = self._probability(_ATTACK, linear, windows) if direction is Direction.INPUT else 0.0
        if windows is None:
            return Scores(harm, attack, dict.fromkeys(CATEGORIES, harm), "linear")
        worst = windows[int(windows[:, harm_head].argmax()), len(HEADS) :]
        shares = np.exp(worst - worst.max())
        categories = {name: harm * float(share) for name, share in zip(CATEGORIES, shares, strict=True)}
        return Scores(harm, attack, categories, "encoder")

    def _probability(self, head: int, linear: Floats, windows: Floats | None) -> float:
        fits = self._artefact.description.heads[HEADS[head]]
        if windows is None:
            return _sigmoid(_log_odds(fits.alone, float(linear[head]), 0, 0))
        column = windows[:, head]
        return _sigmoid(_log_odds(fits.together, float(linear[head]), float(column.max()), float(column.mean())))


def _alone_below(fit: HeadFit, *, quick: bool) -> float:
    return fit.quick_below if quick and fit.quick_below is not None else fit.sure_below


def _log_odds(fit: Fit, linear: float, highest: float, mean: float) -> float:
    return fit.bias + fit.linear * linear + fit.highest * highest + fit.mean * mean


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, value))))
