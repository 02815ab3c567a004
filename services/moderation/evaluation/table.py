"""The report for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.moderation.evaluation.groups import Figure, GroupFigures
from services.moderation.evaluation.report import TOTAL, Report

_Rows = list[tuple[str, ...]]

_FEWEST = 20
"""Categories of fewer unsafe texts stand in `--json` only: there are hundreds, and such figures say little."""

_GROUP_HEAD = (
    *("SAFE", "UNSAFE", "ACCURACY", "PRECISION", "RECALL", "F1", "ROC-AUC", "PR-AUC"),
    *("RECALL@1%FPR", "@1% OF BENIGN", "FPR"),
)
_GROUP_FIGURES = (
    *("accuracy", "precision", "recall", "f1", "roc_auc", "pr_auc"),
    *("recall_at_1pct_fpr", "recall_at_1pct_benign_fpr", "false_positive_rate"),
)
_WITHOUT_INTERVAL = {"accuracy", "precision", "f1", "pr_auc"}
_TIMES = ("p50_ms", "p99_ms", "cpu_p50_ms", "cpu_p99_ms")
_TITLES = {"directions": "BY DIRECTION", "heads": "BY HEAD", "sets": "BY SET", "categories": "BY CATEGORY"}


def render(report: Report) -> str:
    """Tables of all that there is to say; intervals are of 95%, shares in percent."""
    parts = [_head(report)]
    for kind, groups in report.groups.items():
        chosen = {name: group for name, group in groups.items() if kind != "categories" or group.unsafe >= _FEWEST}
        if chosen:
            rows: _Rows = [(_TITLES.get(kind, ""), *_GROUP_HEAD)]
            rows += [_group(name, group) for name, group in chosen.items()]
            parts.append(_table(rows))
    if any(group.compared == "direction" for groups in report.groups.values() for group in groups.values()):
        parts.append("* ranked among all safe texts of the same direction, for lack of its own or as a category")
    parts += [*_false_positives(report), *_entities(report), *_layers(report), _latency(report.latency)]
    return "\n\n".join(parts)


def _head(report: Report) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return (
        f"{report.rows:,} texts judged by {versions}\n"
        f"intervals of 95%: Wilson for shares, {report.resamples:,} bootstrap resamples (seed {report.seed}) for the "
        "rest; near-duplicates count as one"
    )


def _group(name: str, group: GroupFigures) -> tuple[str, ...]:
    mark = " *" if group.compared == "direction" else ""
    cells = [_cell(group.figures[figure], bare=figure in _WITHOUT_INTERVAL) for figure in _GROUP_FIGURES]
    return (f"{name}{mark}", str(group.safe), str(group.unsafe), *cells)


def _false_positives(report: Report) -> list[str]:
    """By set of ordinary prompts. Those of other safe texts stand with their sets."""
    counted = dict(report.benign)
    if TOTAL in report.safe:
        counted["all safe texts, of all heads"] = report.safe[TOTAL]
    if not counted:
        return []
    rows: _Rows = [("FALSE POSITIVES ON BENIGN PROMPTS", "TEXTS", "FLAGGED", "SHARE")]
    rows += [
        (name, str(positives.rows), str(positives.flagged), _cell(positives.rate))
        for name, positives in counted.items()
    ]
    return [_table(rows)]


def _entities(report: Report) -> list[str]:
    if not report.entities.types:
        return []
    rows: _Rows = [("ENTITIES, EXACT SPANS", "THERE", "FOUND", "EXACT", "PRECISION", "RECALL", "F1", "TOUCHED")]
    for name, figures in report.entities.types.items():
        counts = (str(figures.labelled), str(figures.found), str(figures.exact))
        both = figures.labelled + figures.found
        f1 = _percent(2 * figures.exact / both if both else math.nan)
        shares = (_cell(figures.precision), _cell(figures.recall), f1, _cell(figures.share_touched, bare=True))
        rows.append((name, *counts, *shares))
    table = _table(rows)
    if others := ", ".join(f"{name} {count}" for name, count in report.entities.not_looked_for.most_common()):
        table += f"\nnobody looks for: {others}"
    return [table]


def _layers(report: Report) -> list[str]:
    parts = []
    rows: _Rows
    if report.tiers:
        rows = [("DECIDED BY", "CHECKS", "SHARE")]
        rows += [(name, f"{tier['checks']:.0f}", _percent(tier["share"])) for name, tier in report.tiers.items()]
        parts.append(_table(rows))
    if report.layers:
        rows = [("LAYER", "UNSAFE SEEN", "FLAGGED", "SAFE SEEN", "FLAGGED")]
        rows += [
            (name, *(f"{layer[key]:.0f}" for key in ("unsafe", "flagged_unsafe", "safe", "flagged_safe")))
            for name, layer in report.layers.items()
        ]
        parts.append(_table(rows))
    if report.disagreement:
        rows = [("LAYERS", "BOTH SAW", "DISAGREE", "SHARE", "ONLY THE FIRST: UNSAFE/SAFE", "ONLY THE SECOND")]
        for pair in report.disagreement:
            first, second = pair["layers"]
            alone = [pair[f"only_{name}"] for name in (first, second)]
            rows.append(
                (
                    f"{first}, {second}",
                    str(pair["both_saw"]),
                    str(pair["disagree"]),
                    _percent(pair["share"]),
                    *(f"{flagged['unsafe']}/{flagged['safe']}" for flagged in alone),
                )
            )
        parts.append(_table(rows))
    return parts


def _latency(latency: Mapping[str, Any]) -> str:
    rows: _Rows = [("LATENCY", "CHECKS", "P50 MS", "P99 MS", "CPU P50 MS", "CPU P99 MS", "PER S AND CORE")]

    def add(name: str, times: Mapping[str, float] | None, per_core: float | None = None) -> None:
        if times:
            speed = f"{per_core:,.0f}" if per_core else ""
            figures = [_ms(times[key]) if key in times else "" for key in _TIMES]
            rows.append((name, str(times["checks"]), *figures, speed))

    add("checks", latency["checks"], latency["checks_per_s_per_core"])
    for tokens, times in latency["tokens"].items():
        add(f"  about {int(tokens):,} tokens", times)
    for name, times in latency["layers"].items():
        add(f"  {name}", times)
    add("entities", latency["entities"], latency["entities_per_s_per_core"])
    return _table(rows)


def _cell(figure: Figure, *, bare: bool = False) -> str:
    if math.isnan(figure.value):
        return "-"
    if bare or math.isnan(figure.interval.low):
        return _percent(figure.value)
    return f"{_percent(figure.value)} ({_percent(figure.interval.low)}-{_percent(figure.interval.high)})"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share * 100:.1f}"


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.1f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first to the left and the figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Iterable[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]).rstrip()
