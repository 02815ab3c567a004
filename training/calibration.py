"""From the scores of rows that were left out: probabilities and operating points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.moderation.classifier.artefact import HEADS, POINTS, HeadFit
from services.moderation.evaluation.metrics import threshold_at_fpr
from training.rows import BENIGN_SETS, Example
from training.scores import Floats, fit_head, probabilities

INPUT_HEADS, OUTPUT_HEADS = (0, 1), (2,)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Every row that some training left out, with the raw scores of that training.

    Attributes:
        looks: Raw scores of the looks at those that are outputs.
        owners: Which example each look belongs to.
        looked: At which examples it was looked so.
    """

    examples: Sequence[Example]
    scores: Floats
    looks: Floats
    owners: NDArray[np.intp]
    looked: NDArray[np.bool_]

    def of_kind(self, kind: str) -> NDArray[np.bool_]:
        """Which are inputs, or outputs."""
        return np.array([example.kind == kind for example in self.examples])


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What the scores mean.

    Attributes:
        points: Thresholds by stream (input, output, output_stream), head and operating point.
        harm, attack: Probabilities of all left-out examples; of an output `attack` is 0.
        streamed: The highest probability over the looks at an output and the whole of it; of an input that of harm.
    """

    heads: Mapping[str, HeadFit]
    points: Mapping[str, Mapping[str, Mapping[str, float]]]
    harm: Floats
    attack: Floats
    streamed: Floats


def calibrate(left_out: LeftOut) -> Calibrated:
    """Fit probabilities to scores, then thresholds to probabilities."""
    heads = {
        **_fit_heads(left_out, left_out.of_kind("input"), INPUT_HEADS),
        **_fit_heads(left_out, left_out.of_kind("output"), OUTPUT_HEADS),
    }
    inputs, outputs = left_out.of_kind("input"), left_out.of_kind("output")
    harm, attack = np.zeros(len(left_out.examples)), np.zeros(len(left_out.examples))
    asked = probabilities(heads, left_out.scores[inputs], INPUT_HEADS)
    harm[inputs], attack[inputs] = asked["harm"], asked["attack"]
    harm[outputs] = probabilities(heads, left_out.scores[outputs], OUTPUT_HEADS)["harm_output"]
    streamed = harm.copy()
    np.maximum.at(streamed, left_out.owners, probabilities(heads, left_out.looks, OUTPUT_HEADS)["harm_output"])

    benign = np.array([example.set in BENIGN_SETS for example in left_out.examples])
    harmless = outputs & ~np.array([example.unsafe for example in left_out.examples])
    points = {
        "input": {"harm": _points(harm[benign]), "attack": _points(attack[benign])},
        "output": {"harm": _points(harm[harmless])},
        "output_stream": {"harm": _points(streamed[harmless & left_out.looked])},
    }
    # Of a streamed answer the whole is looked at as well; where there were few looks, chance says otherwise.
    for point, threshold in points["output"]["harm"].items():
        points["output_stream"]["harm"][point] = max(threshold, points["output_stream"]["harm"][point])
    return Calibrated(heads, points, harm, attack, streamed)


def _fit_heads(left_out: LeftOut, rows: NDArray[np.bool_], heads: Sequence[int]) -> dict[str, HeadFit]:
    chosen = [example for example, is_chosen in zip(left_out.examples, rows, strict=True) if is_chosen]
    targets = np.array([example.targets for example in chosen])
    weights = np.array([example.weights for example in chosen])
    fits = {}
    for head in heads:
        known = ~np.isnan(targets[:, head])
        scores = left_out.scores[rows][known]
        fits[HEADS[head]] = fit_head(scores, targets[known, head], weights[known, head], head)
    return fits


def _points(scores: Floats) -> dict[str, float]:
    rates = {point: float(point.removeprefix("fpr_").removesuffix("%")) / 100 for point in POINTS}
    return {point: float(threshold_at_fpr(scores, rate)) for point, rate in rates.items()}
