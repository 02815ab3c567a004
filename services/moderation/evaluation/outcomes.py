"""Judges labelled texts one by one, as a service under low load would, and keeps what was said and what it took."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.moderation.evaluation.judging import FoundSpan, Judged, Judging, LayerJudgement
from services.moderation.evaluation.rows import LabelledText
from services.runtime.settings import SettingsError

PII_TIER = "pii"

_WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """A text and what was said of it.

    Attributes:
        seconds: What the check took, by the clock.
        cpu_seconds: What it took of a core.
        spans: What was found, for rows that ask for entities.
    """

    row: LabelledText
    score: float
    flagged: bool
    tier: str
    seconds: float
    cpu_seconds: float
    layers: Mapping[str, LayerJudgement] = field(default_factory=dict)
    spans: Sequence[FoundSpan] = ()


def judge_rows(
    rows: Sequence[LabelledText], judge: Judging, *, progress: Callable[[int], None] = lambda _: None
) -> list[Outcome]:
    """Judge all rows. Those that ask for entities are judged by what is found of them alone."""
    _warm_up(rows, judge)
    outcomes = []
    for number, row in enumerate(rows, start=1):
        outcomes.append(_find(row, judge) if row.is_pii else _judge(row, judge))
        progress(number)
    return outcomes


def write_outcomes(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write a line for each row, without its text: a file of results may be passed on where the texts may not.

    Raises:
        SettingsError: the file cannot be written.
    """
    try:
        with path.open("w", encoding="utf-8") as lines:
            for outcome in outcomes:
                lines.write(json.dumps(_as_json(outcome), ensure_ascii=False) + "\n")
    except OSError as error:
        raise SettingsError(f"--output {path} cannot be written: {error}") from error


def _as_json(outcome: Outcome) -> dict[str, object]:
    row = outcome.row
    content: dict[str, object] = {
        "id": row.id,
        "set": row.set,
        "kind": row.kind,
        "head": row.head,
        "label": row.label,
        "score": round(outcome.score, 6),
        "flagged": outcome.flagged,
        "tier": outcome.tier,
        "ms": round(outcome.seconds * 1000, 3),
    }
    if row.is_pii:
        content["spans"] = [{"type": span.entity, "start": span.start, "end": span.end} for span in outcome.spans]
    else:
        content["layers"] = {name: round(layer.score, 6) for name, layer in outcome.layers.items()}
    return content


def _warm_up(rows: Sequence[LabelledText], judge: Judging) -> None:
    # What is done for the first time, such as building an automaton, belongs to no row.
    for row in rows[:: max(1, len(rows) // _WARM_UP)]:
        judge.judge(row.text, row.direction)
        judge.find(row.text)


def _judge(row: LabelledText, judge: Judging) -> Outcome:
    cpu, started = time.process_time(), time.perf_counter()
    judged: Judged = judge.judge(row.text, row.direction)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    return Outcome(row, judged.score, judged.flagged, judged.tier, seconds, cpu_seconds, layers=judged.layers)


def _find(row: LabelledText, judge: Judging) -> Outcome:
    cpu, started = time.process_time(), time.perf_counter()
    spans = judge.find(row.text)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    return Outcome(row, float(bool(spans)), bool(spans), PII_TIER, seconds, cpu_seconds, spans=spans)
