"""Figures of a judgement, exact and with their uncertainty. numpy only.

A text is flagged when its score is at least the threshold. Texts of the same score cannot be told apart, so every
figure takes or leaves them together: the order of the rows never changes a result. What cannot be computed, such as the
ROC-AUC of safe texts only, is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]

Z_95 = 1.959963984540054
"""The normal quantile of a two-sided interval of 95%."""

_CHUNK_VALUES = 2_000_000
"""Weights of resamples that are worked on at once: 16 MB, whatever the number of rows."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a figure lies with 95% confidence."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Counts:
    """What was flagged, rightly and wrongly."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @classmethod
    def of(cls, unsafe: npt.ArrayLike, flagged: npt.ArrayLike) -> Counts:
        """Count two columns of truth values."""
        truth, said = np.asarray(unsafe, dtype=bool), np.asarray(flagged, dtype=bool)
        return cls(
            true_positives=int(np.sum(truth & said)),
            false_positives=int(np.sum(~truth & said)),
            true_negatives=int(np.sum(~truth & ~said)),
            false_negatives=int(np.sum(truth & ~said)),
        )

    @property
    def unsafe(self) -> int:
        """Texts that ought to be flagged."""
        return self.true_positives + self.false_negatives

    @property
    def safe(self) -> int:
        """Texts that ought not."""
        return self.false_positives + self.true_negatives

    @property
    def flagged(self) -> int:
        """Texts that were."""
        return self.true_positives + self.false_positives

    @property
    def accuracy(self) -> float:
        """Share of texts that were judged rightly."""
        return ratio(self.true_positives + self.true_negatives, self.safe + self.unsafe)

    @property
    def precision(self) -> float:
        """Share of the flagged texts that are unsafe."""
        return ratio(self.true_positives, self.flagged)

    @property
    def recall(self) -> float:
        """Share of the unsafe texts that were flagged."""
        return ratio(self.true_positives, self.unsafe)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 when unsafe texts were all missed."""
        return ratio(2 * self.true_positives, self.unsafe + self.flagged) if self.unsafe else math.nan

    @property
    def false_positive_rate(self) -> float:
        """Share of the safe texts that were flagged."""
        return ratio(self.false_positives, self.safe)


class SafeScores:
    """The scores of safe texts in order: what the unsafe ones of any number of groups are compared with."""

    def __init__(self, scores: npt.ArrayLike) -> None:
        values = _scores(scores)
        self._order: Indices = np.argsort(-values, kind="stable")
        self._ascending = values[self._order][::-1]

    def above(self, scores: Floats) -> Indices:
        """How many are greater than each of these."""
        return len(self._ascending) - np.searchsorted(self._ascending, scores, side="right")

    def reaching(self, scores: Floats) -> Indices:
        """How many are at least as great as each of these."""
        return len(self._ascending) - np.searchsorted(self._ascending, scores, side="left")

    def cumulated(self, weights: Floats | None = None) -> Floats:
        """The weight of the n greatest, for each n from 0, one row for each resample."""
        ordered = np.ones((1, len(self._order))) if weights is None else weights[:, self._order]
        return np.concatenate([np.zeros((len(ordered), 1)), np.cumsum(ordered, axis=1)], axis=1)


@dataclass(frozen=True, slots=True)
class Curve:
    """What is flagged at each score that an unsafe text has, greatest first; one row for each resample.

    Attributes:
        hits: Weight of the unsafe texts of at least that score; the last is that of all.
        above: Weight of the safe texts of a greater score.
        alarms: Weight of the safe texts of at least that score.
        safe: Weight of all safe texts.
    """

    hits: Floats
    above: Floats
    alarms: Floats
    safe: Floats

    @property
    def unsafe(self) -> Floats:
        """Weight of all unsafe texts."""
        return self.hits[:, -1] if self.hits.shape[1] else np.zeros(len(self.hits))

    def roc_auc(self) -> Floats:
        """The chance that an unsafe text scores higher than a safe one, equal scores counting half."""
        lower = self.safe[:, None] - (self.above + self.alarms) / 2.0
        return _divided(np.sum(np.diff(self.hits, prepend=0.0) * lower, axis=1), self.unsafe * self.safe)

    def average_precision(self) -> Floats:
        """The precision at each threshold, weighted with the recall that it adds: the area under precision-recall."""
        flagged = self.hits + self.alarms
        precision = np.divide(self.hits, flagged, out=np.zeros_like(self.hits), where=flagged > 0)
        return _divided(np.sum(np.diff(self.hits, prepend=0.0) * precision, axis=1), self.unsafe)

    def recall_at_fpr(self, rate: float) -> Floats:
        """The greatest recall at which no more than `rate` of the safe texts are flagged."""
        within = self.alarms <= (rate * self.safe + _SLACK)[:, None]
        reached = np.max(np.where(within, self.hits, 0.0), axis=1, initial=0.0)
        return np.where(self.safe > 0, _divided(reached, self.unsafe), math.nan)


class Ranking:
    """Unsafe texts among safe ones by their scores: what figures over all thresholds are computed from."""

    def __init__(self, unsafe_scores: npt.ArrayLike, safe: SafeScores) -> None:
        values = _scores(unsafe_scores)
        self._order: Indices = np.argsort(-values, kind="stable")
        ordered = values[self._order]
        # The last text of each group of equal scores: a threshold can only lie between groups.
        self._ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(ordered) else _NONE
        self._above, self._alarms = safe.above(ordered[self._ends]), safe.reaching(ordered[self._ends])

    def curve(self, weights: Floats | None, safe: Floats) -> Curve:
        """The curve of the texts as they are (no weights) or of resamples.

        Args:
            weights: How often each unsafe text is in each resample, (resamples, texts).
            safe: What `SafeScores.cumulated` gives for the same resamples.
        """
        ordered = np.ones((1, len(self._order))) if weights is None else weights[:, self._order]
        hits = np.cumsum(ordered, axis=1)[:, self._ends]
        return Curve(hits, safe[:, self._above], safe[:, self._alarms], safe[:, -1])


class Ranked:
    """Labelled texts by their scores, as one curve or, with weights of the form (resamples, texts), one for each."""

    def __init__(self, unsafe: npt.ArrayLike, scores: npt.ArrayLike) -> None:
        truth, values = np.asarray(unsafe, dtype=bool), _scores(scores)
        if truth.shape != values.shape:
            raise ValueError(f"labels of shape {truth.shape} and scores of shape {values.shape} do not go together")
        self._truth = truth
        self._safe = SafeScores(values[~truth])
        self._ranking = Ranking(values[truth], self._safe)

    def curve(self, weights: Floats | None = None) -> Curve:
        """What all figures over thresholds come from."""
        if weights is None:
            return self._ranking.curve(None, self._safe.cumulated())
        return self._ranking.curve(weights[:, self._truth], self._safe.cumulated(weights[:, ~self._truth]))


def roc_auc(unsafe: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """ROC-AUC, see `Curve`."""
    return float(Ranked(unsafe, scores).curve().roc_auc()[0])


def average_precision(unsafe: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """PR-AUC as average precision, see `Curve`."""
    return float(Ranked(unsafe, scores).curve().average_precision()[0])


def recall_at_fpr(unsafe: npt.ArrayLike, scores: npt.ArrayLike, rate: float) -> float:
    """Recall at a false-positive rate, see `Curve`."""
    return float(Ranked(unsafe, scores).curve().recall_at_fpr(rate)[0])


def threshold_at_fpr(safe_scores: npt.ArrayLike, rate: float) -> float:
    """The smallest threshold that flags no more than `rate` of texts that are safe.

    Raises:
        ValueError: there are no scores.
    """
    scores = np.sort(np.asarray(safe_scores, dtype=np.float64))[::-1]
    if not len(scores):
        raise ValueError("no threshold without scores of safe texts")
    allowed = math.floor(rate * len(scores) + _SLACK)
    if allowed >= len(scores):
        return float(scores[-1])
    return float(np.nextafter(scores[allowed], math.inf))


def wilson(successes: float, trials: float, *, z: float = Z_95) -> Interval:
    """Wilson's score interval of a share. `trials` may be an effective number, see `effective_size`."""
    if trials <= 0:
        return Interval(math.nan, math.nan)
    share = successes / trials
    spread = 1.0 + z * z / trials
    centre = (share + z * z / (2.0 * trials)) / spread
    half = z / spread * math.sqrt(share * (1.0 - share) / trials + z * z / (4.0 * trials * trials))
    # At the ends the bound is exact; rounding must not carry it past the share.
    return Interval(min(max(0.0, centre - half), share), max(min(1.0, centre + half), share))


def effective_size(clusters: npt.ArrayLike) -> float:
    """How many independent texts these are worth when texts of a cluster are as good as copies (Kish)."""
    _, sizes = np.unique(np.asarray(clusters), return_counts=True)
    total = float(np.sum(sizes))
    return total * total / float(np.sum(sizes.astype(np.float64) ** 2)) if total else 0.0


def share_interval(successes: npt.ArrayLike, clusters: npt.ArrayLike) -> Interval:
    """Wilson's interval of the share of truths, with near-duplicates counted as what they are worth."""
    truth = np.asarray(successes, dtype=np.float64)
    if not len(truth):
        return Interval(math.nan, math.nan)
    trials = effective_size(clusters)
    return wilson(float(np.mean(truth)) * trials, trials)


def number_clusters(clusters: Sequence[Hashable]) -> Indices:
    """Numbers from 0 for clusters by name."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.intp)


def resampled_weights(clusters: npt.ArrayLike, *, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each text is in each resample, in chunks of the form (resamples of the chunk, texts).

    Whole clusters are drawn with replacement: near-duplicates stand or fall together, so drawing single texts would
    promise more certainty than there is.
    """
    _, numbers = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(numbers.max()) + 1 if len(numbers) else 0
    generator = np.random.default_rng(seed)
    size = max(1, _CHUNK_VALUES // max(1, len(numbers)))
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        drawn = generator.integers(0, max(1, count), size=(rows, count))
        offsets = np.arange(rows)[:, None] * count
        times = np.bincount((drawn + offsets).ravel(), minlength=rows * count).reshape(rows, count)
        yield times.astype(np.float64)[:, numbers]


def bootstrap(
    figures: Callable[[Floats], Sequence[Floats]], clusters: npt.ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> list[Interval]:
    """Percentile intervals of figures.

    A resample in which a figure cannot be computed does not count for it.

    Args:
        figures: Gives one value of each figure for each row of weights.
        clusters: The cluster of each text.
        resamples: How many.
        seed: The same seed gives the same intervals.
    """
    chunks = [figures(weights) for weights in resampled_weights(clusters, resamples=resamples, seed=seed)]
    return [percentile_interval(np.concatenate(column)) for column in zip(*chunks, strict=True)]


def weighted_f1(unsafe: npt.ArrayLike, flagged: npt.ArrayLike, weights: Floats) -> Floats:
    """F1 of each resample."""
    truth, said = np.asarray(unsafe, dtype=np.float64), np.asarray(flagged, dtype=np.float64)
    there = weights @ truth
    return _divided(2.0 * (weights @ (truth * said)), np.where(there > 0, there + weights @ said, 0.0))


def percentile_interval(values: Floats) -> Interval:
    """Where the middle 95% lie of those that are numbers."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Interval(math.nan, math.nan)
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(float(low), float(high))


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Texts of similar probability: what was said of them on average, and how many were unsafe."""

    low: float
    high: float
    count: int
    mean_probability: float
    share_unsafe: float


def reliability(unsafe: npt.ArrayLike, probabilities: npt.ArrayLike, *, bins: int = 15) -> list[ReliabilityBin]:
    """Bins of equal width over [0, 1]; the empty ones are left out."""
    truth = np.asarray(unsafe, dtype=np.float64)
    probability = np.asarray(probabilities, dtype=np.float64)
    if len(probability) and not (probability.min() >= 0.0 and probability.max() <= 1.0):
        raise ValueError("a probability lies outside of 0 to 1")
    places = np.minimum((probability * bins).astype(np.intp), bins - 1)
    found = []
    for place in range(bins):
        chosen = places == place
        if count := int(np.sum(chosen)):
            means = float(np.mean(probability[chosen])), float(np.mean(truth[chosen]))
            found.append(ReliabilityBin(place / bins, (place + 1) / bins, count, *means))
    return found


def expected_calibration_error(unsafe: npt.ArrayLike, probabilities: npt.ArrayLike, *, bins: int = 15) -> float:
    """The mean distance between what was said and what was so, over bins of equal width."""
    found = reliability(unsafe, probabilities, bins=bins)
    total = sum(one.count for one in found)
    return ratio(sum(one.count * abs(one.mean_probability - one.share_unsafe) for one in found), total)


def brier(unsafe: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """The mean squared distance between probability and truth."""
    truth = np.asarray(unsafe, dtype=np.float64)
    return float(np.mean((np.asarray(probabilities, dtype=np.float64) - truth) ** 2)) if len(truth) else math.nan


def ratio(part: float, whole: float) -> float:
    """Their quotient; NaN of nothing."""
    return part / whole if whole else math.nan


_NONE: Indices = np.empty(0, dtype=np.intp)
_SLACK = 1e-9
"""So that 29% of 100 texts are 29 in floating point, too."""


def _scores(values: npt.ArrayLike) -> Floats:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"scores of shape {scores.shape} are no column")
    if np.isnan(scores).any():
        raise ValueError("a score is not a number")
    return scores


def _divided(part: Floats, whole: Floats) -> Floats:
    quotients: Floats = np.divide(part, whole, out=np.full(len(part), math.nan), where=whole > 0)
    return quotients
