"""Writes the figures of a training into the model card, between two marks: what people wrote around them stays."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.moderation.classifier import Classifier
from services.moderation.classifier.artefact import CATEGORIES, HEADS, POINTS
from services.moderation.evaluation.metrics import (
    Interval,
    Ranked,
    bootstrap,
    expected_calibration_error,
    share_interval,
)
from services.moderation.model import Direction
from training.calibration import INPUT_HEADS, OUTPUT_HEADS, Calibrated, LeftOut
from training.rows import BENIGN_SETS, Example
from training.scores import Floats, probabilities, sure

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

Bools = NDArray[np.bool_]

_POINT = "fpr_1%"
_RESAMPLES = 300
_LATENCY_RUNS = 15
_SENTENCE = "The committee will meet again on Thursday to talk about the new library and its opening hours. "


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows and what the classifier says of them, as columns."""

    examples: Sequence[Example]
    harm: Floats
    attack: Floats
    scores: Floats

    def where(self, rows: Callable[[Example], bool]) -> Judged:
        """Some of the rows."""
        chosen = np.array([rows(example) for example in self.examples], dtype=bool)
        kept = [example for example, is_chosen in zip(self.examples, chosen, strict=True) if is_chosen]
        return Judged(kept, self.harm[chosen], self.attack[chosen], self.scores[chosen])

    @property
    def unsafe(self) -> Bools:
        """Which ought to be flagged."""
        return np.array([example.unsafe for example in self.examples], dtype=bool)

    @property
    def clusters(self) -> list[str]:
        """Which are near-duplicates of one another."""
        return [example.cluster for example in self.examples]

    @property
    def worst(self) -> Floats:
        """The higher of both probabilities."""
        return np.maximum(self.harm, self.attack)


def write_report(card: Path, *, left_out: LeftOut, calibrated: Calibrated, held: LeftOut, model: Path) -> None:
    """Put the figures in the place of those that stand there."""
    away = Judged(left_out.examples, calibrated.harm, calibrated.attack, left_out.scores)
    inside = _judged(held, calibrated)
    text = "\n\n".join(
        [
            _about(model),
            "### Over all sets\n\n" + _overall(away, inside),
            "### By set\n\n" + _by_set(away, inside, calibrated),
            "### By category\n\n" + _by_category(away, inside, calibrated),
            "### Operating points\n\n" + _points(calibrated),
            "### Streamed answers\n\n" + _streamed(left_out, calibrated),
            "### Which model answers\n\n" + _tiers(away, inside, calibrated),
            "### Time\n\n" + _times(model),
        ]
    )
    before, _, rest = card.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    card.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def _judged(rows: LeftOut, calibrated: Calibrated) -> Judged:
    inputs, outputs = rows.of_kind("input"), rows.of_kind("output")
    harm, attack = np.zeros(len(rows.examples)), np.zeros(len(rows.examples))
    asked = probabilities(calibrated.heads, rows.scores[inputs], INPUT_HEADS)
    harm[inputs], attack[inputs] = asked["harm"], asked["attack"]
    harm[outputs] = probabilities(calibrated.heads, rows.scores[outputs], OUTPUT_HEADS)["harm_output"]
    return Judged(rows.examples, harm, attack, rows.scores)


def _about(model: Path) -> str:
    described = json.loads(model.with_suffix(".json").read_text())
    size = model.stat().st_size / 1e6
    return (
        f"Model `{described['version']}`, {size:.1f} MB, trained with seed {described['seed']} on rows of digest "
        f"`{described['data']}`."
    )


def _overall(away: Judged, inside: Judged) -> str:
    lines = ["| figure | sets left out | same sets, other rows |", "|---|---|---|"]
    columns = [rows.where(lambda e: e.kind == "input" and e.head != "pii" and not _ours(e)) for rows in (away, inside)]
    for name, figure in (("ROC-AUC", "auc"), ("PR-AUC", "precision")):
        lines.append(f"| inputs: {name} | " + " | ".join(_ranked(rows, rows.worst, figure) for rows in columns) + " |")
    lines.append(
        "| inputs: recall at 1% false positives on benign prompts | "
        + " | ".join(_recall_at_benign(rows) for rows in columns)
        + " |"
    )
    lines.append(
        "| inputs: XSTest's harmless prompts with trigger words, flagged at that threshold | "
        + " | ".join(_trigger_words(rows) for rows in columns)
        + " |"
    )
    answers = [rows.where(lambda e: e.kind == "output" and not _ours(e)) for rows in (away, inside)]
    for name, figure in (("ROC-AUC", "auc"), ("PR-AUC", "precision"), ("recall at 1% false positives", "recall")):
        lines.append(f"| outputs: {name} | " + " | ".join(_ranked(rows, rows.harm, figure) for rows in answers) + " |")
    errors = [
        f"{expected_calibration_error(rows.unsafe, rows.harm):.3f}"
        for rows in (r.where(lambda e: e.kind == "input" and e.head in {"harm", "benign"}) for r in (away, inside))
    ]
    lines.append("| expected calibration error of `harm`, inputs | " + " | ".join(errors) + " |")
    return "\n".join(lines)


def _ours(example: Example) -> bool:
    return example.set.startswith("lookalike_")


def _ranked(rows: Judged, scores: Floats, figure: str) -> str:
    ranked = Ranked(rows.unsafe, scores)

    def values(weights: Floats | None) -> Floats:
        curve = ranked.curve(weights)
        match figure:
            case "auc":
                return curve.roc_auc()
            case "precision":
                return curve.average_precision()
            case _:
                return curve.recall_at_fpr(0.01)

    interval = bootstrap(lambda weights: [values(weights)], rows.clusters, resamples=_RESAMPLES)[0]
    return _with(float(values(None)[0]), interval)


def _recall_at_benign(rows: Judged) -> str:
    chosen = rows.where(lambda e: e.unsafe or e.set in BENIGN_SETS)
    return _ranked(chosen, chosen.worst, "recall")


def _trigger_words(rows: Judged) -> str:
    benign = rows.where(lambda e: e.set in BENIGN_SETS).worst
    limit = np.quantile(benign, 0.99, method="higher")
    safe = rows.where(lambda e: e.set == "xstest" and not e.unsafe)
    return _share(safe, safe.worst > limit)


def _flagged(rows: Judged, calibrated: Calibrated) -> Bools:
    points = calibrated.points
    limits = {"input": points["input"]["harm"][_POINT], "output": points["output"]["harm"][_POINT]}
    over = rows.harm >= np.array([limits[example.kind] for example in rows.examples])
    return np.asarray(over | (rows.attack >= points["input"]["attack"][_POINT]))


def _share(rows: Judged, flagged: Bools) -> str:
    if not len(flagged):
        return "-"
    return _with(float(flagged.mean()), share_interval(flagged, rows.clusters))


def _with(value: float, interval: Interval) -> str:
    return "-" if math.isnan(value) else f"{value:.3f} ({interval.low:.3f}-{interval.high:.3f})"


def _by_set(away: Judged, inside: Judged, calibrated: Calibrated) -> str:
    lines = [
        f"Shares that are flagged at `{_POINT}` of either head, with intervals of 95%.",
        "",
        "| set | rows | unsafe, set left out | safe, set left out | unsafe, other rows | safe, other rows |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted({e.set for e in inside.examples}):
        cells = []
        for rows in (away, inside):
            own = rows.where(lambda e, name=name: e.set == name)  # type: ignore[misc]
            flagged = _flagged(own, calibrated)
            for wanted in (True, False):
                part = own.where(lambda e, wanted=wanted: e.unsafe is wanted)  # type: ignore[misc]
                cells.append(_share(part, flagged[own.unsafe == wanted]))
        count = len(away.where(lambda e, name=name: e.set == name).examples)  # type: ignore[misc]
        lines.append(f"| {name} | {count or 'ours, never left out'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_category(away: Judged, inside: Judged, calibrated: Calibrated) -> str:
    lines = [
        "Of harmful inputs whose set names a category: recall at that threshold, and how often the likeliest category "
        "is the one that the set names.",
        "",
        "| category | rows | recall, sets left out | named rightly | recall, other rows | named rightly |",
        "|---|---|---|---|---|---|",
    ]
    for place, name in enumerate(CATEGORIES):
        cells = []
        for rows in (away, inside):
            own = rows.where(lambda e, place=place: e.categories[place] > 0 and not _ours(e))  # type: ignore[misc]
            named = own.scores[:, 3 * len(HEADS) :].argmax(axis=1)
            right = np.array([e.categories[at] > 0 for e, at in zip(own.examples, named, strict=True)], dtype=bool)
            cells += [_share(own, _flagged(own, calibrated)), _share(own, right)]
        count = len(away.where(lambda e, place=place: e.categories[place] > 0).examples)  # type: ignore[misc]
        lines.append(f"| {name} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _points(calibrated: Calibrated) -> str:
    lines = [f"| stream and head | {' | '.join(POINTS)} |", "|---" * (1 + len(POINTS)) + "|"]
    for stream, heads in calibrated.points.items():
        for head, points in heads.items():
            lines.append(f"| {stream}, {head} | " + " | ".join(f"{points[point]:.4f}" for point in POINTS) + " |")
    return "\n".join(lines)


def _streamed(left_out: LeftOut, calibrated: Calibrated) -> str:
    unsafe = np.array([example.unsafe for example in left_out.examples])
    lines = [
        "Of answers whose set was left out: what is flagged at the end, and what is flagged when the highest score of "
        "all looks counts.",
        "",
        "| threshold | harmless, whole | harmful, whole | harmless, streamed | harmful, streamed |",
        "|---|---|---|---|---|",
    ]
    for stream in ("output", "output_stream"):
        for point in ("fpr_1%", "fpr_5%"):
            limit = calibrated.points[stream]["harm"][point]
            cells = [
                f"{float((scores[left_out.looked & (unsafe == wanted)] >= limit).mean()):.3f}"
                for scores in (calibrated.harm, calibrated.streamed)
                for wanted in (False, True)
            ]
            lines.append(f"| `{point}` of `{stream}`: {limit:.4f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _tiers(away: Judged, inside: Judged, calibrated: Calibrated) -> str:
    lines = [
        "Shares that the linear model answers alone; the encoder reads the others.",
        "",
        "| rows | sets left out | same sets, other rows |",
        "|---|---|---|",
    ]
    groups: dict[str, Callable[[Example], bool]] = {
        "benign prompts": lambda e: e.set in BENIGN_SETS,
        "other harmless inputs": lambda e: e.kind == "input" and not e.unsafe and e.set not in BENIGN_SETS,
        "harmful inputs and attacks": lambda e: e.kind == "input" and e.unsafe and e.head != "pii",
        "harmless outputs": lambda e: e.kind == "output" and not e.unsafe,
        "harmful outputs": lambda e: e.kind == "output" and e.unsafe,
    }
    for name, chosen in groups.items():
        cells = []
        for all_rows in (away, inside):
            rows = all_rows.where(chosen)
            heads = OUTPUT_HEADS if "outputs" in name else INPUT_HEADS
            cells.append(_share(rows, sure(calibrated.heads, rows.scores, heads)))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _times(model: Path) -> str:
    started = time.perf_counter()
    classifier = Classifier.load(model)
    loaded = time.perf_counter() - started
    lines = [
        f"Loading: {loaded:.2f} s. One text at a time on one core, that the encoder reads:",
        "",
        "| tokens | p50 | p99 |",
        "|---|---|---|",
    ]
    for tokens, sentences in ((20, 1), (200, 10), (2_000, 100)):
        text = (
            "How do I kill a process? " * (tokens < 100) + _SENTENCE * (sentences if tokens > 100 else 0) + "Kill it."
        )
        times = []
        for _ in range(_LATENCY_RUNS):
            started = time.perf_counter()
            classifier.classify([text], Direction.INPUT)
            times.append(1000 * (time.perf_counter() - started))
        lines.append(f"| {tokens:,} | {np.median(times):.1f} ms | {np.quantile(times, 0.99):.1f} ms |")
    return "\n".join(lines)
