"""A judge that says what the test told it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.moderation.evaluation.judging import FoundSpan, Judged, LayerJudgement
from services.moderation.evaluation.outcomes import Outcome
from services.moderation.evaluation.rows import LabelledText
from services.moderation.model import Direction


class ScriptedJudge:
    """Scores and spans by text; an unknown text is an error. Flags from 0.5."""

    def __init__(
        self, scores: Mapping[str, float] | None = None, spans: Mapping[str, Sequence[FoundSpan]] | None = None
    ) -> None:
        self._scores = scores or {}
        self._spans = spans or {}
        self.asked: list[tuple[str, Direction]] = []

    @property
    def versions(self) -> Mapping[str, str]:
        return {"policy": "p1", "classifier": "c1"}

    @property
    def entities(self) -> frozenset[str]:
        return frozenset({"email", "card_number"})

    def judge(self, text: str, direction: Direction) -> Judged:
        self.asked.append((text, direction))
        score = self._scores[text]
        return Judged(score, score >= 0.5, "linear", {"classifier": LayerJudgement(score, score >= 0.5, 0.001)})

    def find(self, text: str) -> Sequence[FoundSpan]:
        return self._spans.get(text, ())


def text(label: str = "safe", **fields: Any) -> LabelledText:
    return LabelledText.model_validate(
        {"text": "x", "label": label, "set": "s", "head": "harm", "cluster": fields.get("id", ""), **fields}
    )


def outcome(
    label: str,
    score: float,
    *,
    seconds: float = 0.001,
    tier: str = "linear",
    layers: Mapping[str, LayerJudgement] | None = None,
    spans: Sequence[FoundSpan] = (),
    **fields: Any,
) -> Outcome:
    return Outcome(
        row=text(label, **fields),
        score=score,
        flagged=score >= 0.5,
        tier=tier,
        seconds=seconds,
        cpu_seconds=seconds,
        layers=layers or {},
        spans=spans,
    )
