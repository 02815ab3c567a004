"""Figures of groups of texts with their intervals, all groups from the same resamples."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from services.moderation.evaluation.metrics import (
    Counts,
    Curve,
    Floats,
    Indices,
    Interval,
    Ranking,
    SafeScores,
    number_clusters,
    percentile_interval,
    resampled_weights,
    share_interval,
    weighted_f1,
)
from services.moderation.evaluation.outcomes import Outcome

FPR = 0.01
"""The false-positive rate at which recall is reported."""

Compared = Literal["own", "direction", "none"]
"""Which safe texts the unsafe ones of a group are ranked among."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure and where it lies with 95% confidence. NaN where it cannot be computed."""

    value: float
    interval: Interval

    def as_json(self) -> dict[str, float | None]:
        """For programs; null where it cannot be computed."""
        return {
            name: None if math.isnan(value) else round(value, 6)
            for name, value in (("value", self.value), ("low", self.interval.low), ("high", self.interval.high))
        }


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """What is known of one group."""

    safe: int
    unsafe: int
    compared: Compared
    figures: Mapping[str, Figure]

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "safe": self.safe,
            "unsafe": self.unsafe,
            "compared_with": self.compared,
            **{name: figure.as_json() for name, figure in self.figures.items()},
        }


class Groups:
    """Groups of the same texts, evaluated together.

    A group of unsafe texts only is ranked among all safe texts of its direction; so is every category, since safe texts
    of a category are its look-alikes, if there are any at all.
    """

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self._unsafe = np.array([outcome.row.unsafe for outcome in outcomes], dtype=bool)
        self._scores = np.array([outcome.score for outcome in outcomes], dtype=np.float64)
        self._flagged = np.array([outcome.flagged for outcome in outcomes], dtype=bool)
        self._clusters = number_clusters([outcome.row.cluster for outcome in outcomes])
        self._directions = np.array([outcome.row.kind for outcome in outcomes], dtype=object)
        self._benign = np.array([outcome.row.head == "benign" for outcome in outcomes], dtype=bool)
        self._safe_of: dict[tuple[int, ...], _Safe] = {}
        self._members: dict[str, _Group] = {}

    def add(self, name: str, members: Sequence[int], *, among_own: bool = True) -> None:
        """Add a group of texts by their places."""
        places: Indices = np.array(members, dtype=np.intp)
        unsafe, safe = places[self._unsafe[places]], places[~self._unsafe[places]]
        directions = set(self._directions[places].tolist())
        compared: Compared
        if among_own and len(safe) and len(unsafe):
            compared, among = "own", safe
        elif len(directions) == 1 and len(unsafe):
            compared, among = "direction", self._safe_in(directions)
        else:
            compared, among = "none", places[:0]
        self._members[name] = _Group(
            places=places,
            unsafe=unsafe,
            safe=safe,
            compared=compared,
            among=self._ranked_among(unsafe, among),
            benign=self._ranked_among(unsafe, self._ordinary(directions) if len(directions) == 1 else places[:0]),
        )

    def evaluate(self, *, resamples: int, seed: int) -> dict[str, GroupFigures]:
        """The figures of every group."""
        points = {name: self._points(group) for name, group in self._members.items()}
        drawn: dict[str, list[list[Floats]]] = defaultdict(lambda: [[] for _ in _RANKED])
        for weights in resampled_weights(self._clusters, resamples=resamples, seed=seed):
            for safe in self._safe_of.values():
                safe.resample(weights)
            for name, group in self._members.items():
                for column, values in zip(drawn[name], self._ranked(group, weights), strict=True):
                    column.append(values)
        for safe in self._safe_of.values():
            safe.resample(None)
        found = {}
        for name, group in self._members.items():
            intervals = [percentile_interval(np.concatenate(column)) if column else _UNKNOWN for column in drawn[name]]
            ranked = {
                figure: Figure(value, interval)
                for figure, value, interval in zip(_RANKED, points[name], intervals, strict=True)
            }
            shares = self._shares(group)
            figures = {figure: shares.get(figure) or ranked[figure] for figure in _ORDER}
            found[name] = GroupFigures(len(group.safe), len(group.unsafe), group.compared, figures)
        return found

    def _points(self, group: _Group) -> list[float]:
        return [float(values[0]) for values in self._ranked(group, np.ones((1, len(self._scores))))]

    def _ranked(self, group: _Group, weights: Floats) -> list[Floats]:
        unsafe = weights[:, group.unsafe]
        curve, benign = group.among.curve(unsafe), group.benign.curve(unsafe)
        members = group.places
        return [
            weighted_f1(self._unsafe[members], self._flagged[members], weights[:, members]),
            curve.roc_auc(),
            curve.average_precision(),
            curve.recall_at_fpr(FPR),
            benign.recall_at_fpr(FPR),
        ]

    def _shares(self, group: _Group) -> dict[str, Figure]:
        unsafe, flagged = self._unsafe[group.places], self._flagged[group.places]
        clusters = self._clusters[group.places]
        counts = Counts.of(unsafe, flagged)
        return {
            "accuracy": Figure(counts.accuracy, share_interval(unsafe == flagged, clusters)),
            # Where nothing is unsafe nothing can be precise.
            "precision": Figure(counts.precision, share_interval(unsafe[flagged], clusters[flagged]))
            if counts.unsafe
            else _UNKNOWN_FIGURE,
            "recall": Figure(counts.recall, share_interval(flagged[unsafe], clusters[unsafe])),
            "false_positive_rate": Figure(
                counts.false_positive_rate, share_interval(flagged[~unsafe], clusters[~unsafe])
            ),
        }

    def _safe_in(self, directions: set[str]) -> Indices:
        return np.flatnonzero(~self._unsafe & np.isin(self._directions, list(directions)))

    def _ordinary(self, directions: set[str]) -> Indices:
        """Ordinary texts of a direction; all safe ones where nothing says which are ordinary."""
        safe = self._safe_in(directions)
        benign = safe[self._benign[safe]]
        return benign if len(benign) else safe

    def _ranked_among(self, unsafe: Indices, safe: Indices) -> _Among:
        key = tuple(safe.tolist())
        if key not in self._safe_of:
            self._safe_of[key] = _Safe(safe, self._scores[safe])
        shared = self._safe_of[key]
        return _Among(Ranking(self._scores[unsafe], shared.scores), shared)


_RANKED = ("f1", "roc_auc", "pr_auc", "recall_at_1pct_fpr", "recall_at_1pct_benign_fpr")
_ORDER = (
    *("accuracy", "precision", "recall", "f1", "roc_auc", "pr_auc"),
    *("recall_at_1pct_fpr", "recall_at_1pct_benign_fpr", "false_positive_rate"),
)
_UNKNOWN = Interval(math.nan, math.nan)
_UNKNOWN_FIGURE = Figure(math.nan, _UNKNOWN)


class _Safe:
    """Safe texts that one or many groups are ranked among; their weights are summed once for each resample."""

    def __init__(self, places: Indices, scores: Floats) -> None:
        self.scores = SafeScores(scores)
        self.sums = self.scores.cumulated()
        self._places = places

    def resample(self, weights: Floats | None) -> None:
        """Sum the weights of the resamples that come next; None for the texts as they are."""
        self.sums = self.scores.cumulated(None if weights is None else weights[:, self._places])


@dataclass(frozen=True, slots=True)
class _Among:
    ranking: Ranking
    safe: _Safe

    def curve(self, unsafe_weights: Floats) -> Curve:
        """The curve of the resamples that `safe` was given last."""
        return self.ranking.curve(unsafe_weights, self.safe.sums)


@dataclass(frozen=True, slots=True)
class _Group:
    places: Indices
    unsafe: Indices
    safe: Indices
    compared: Compared
    among: _Among
    benign: _Among
