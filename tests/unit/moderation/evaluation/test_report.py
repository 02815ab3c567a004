"""From judged rows to the report, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.moderation.evaluation import table
from services.moderation.evaluation.judging import FoundSpan, LayerJudgement
from services.moderation.evaluation.outcomes import Outcome, judge_rows, write_outcomes
from services.moderation.evaluation.report import Report, evaluate
from services.moderation.evaluation.timing import tokens_of
from services.moderation.model import Direction
from services.runtime.settings import SettingsError
from tests.unit.moderation.evaluation.scripted import ScriptedJudge, outcome, text


def layer(score: float) -> LayerJudgement:
    return LayerJudgement(score, score >= 0.5, 0.002)


def report_of(*outcomes: Outcome, resamples: int = 50) -> Report:
    return evaluate(outcomes, versions={"policy": "p1"}, looked_for={"email"}, resamples=resamples, seed=0)


@pytest.fixture(scope="module")
def report() -> Report:
    both = {"rules": layer(0.0), "classifier": layer(0.9)}
    first = {"rules": layer(1.0)}
    return report_of(
        outcome("unsafe", 0.9, id="1", set="bad", categories=("hate",), tier="encoder", layers=both, seconds=0.01),
        outcome("unsafe", 1.0, id="2", set="bad", categories=("hate", "hate"), tier="rules", layers=first),
        outcome("safe", 0.6, id="3", set="good", head="benign", tier="linear", layers=both, text="y" * 400),
        outcome("safe", 0.1, id="4", set="good", head="benign", tier="linear", layers=both, text="y" * 8000),
        outcome("unsafe", 0.7, id="5", set="answers", kind="output", head="harm_output"),
        outcome("safe", 0.2, id="6", set="answers", kind="output", head="harm_output"),
        outcome("safe", 1.0, id="7", set="pii", head="pii", tier="pii", spans=[FoundSpan("email", 0, 1)]),
    )


def test_groups(report: Report) -> None:
    assert {kind: list(named) for kind, named in report.groups.items()} == {
        "overall": ["overall"],
        "directions": ["input", "output"],
        "heads": ["benign", "harm", "harm_output", "pii"],
        "sets": ["answers", "bad", "good", "pii"],
        "categories": ["hate"],
    }
    overall = report.groups["overall"]["overall"]
    assert (overall.safe, overall.unsafe) == (3, 3), "rows that ask for entities are no part of it"
    assert report.groups["categories"]["hate"].unsafe == 2, "a category that stands twice counts once"


def test_false_positives(report: Report) -> None:
    assert {name: (one.rows, one.flagged) for name, one in report.benign.items()} == {"good": (2, 1), "all": (2, 1)}
    assert report.benign["all"].rate.value == 0.5
    safe = {name: (one.rows, one.flagged) for name, one in report.safe.items()}
    assert safe == {"answers": (1, 0), "good": (2, 1), "pii": (1, 1), "all": (3, 1)}


def test_layers_and_tiers(report: Report) -> None:
    assert report.tiers == {
        "linear": {"checks": 4, "share": 4 / 6},
        "encoder": {"checks": 1, "share": 1 / 6},
        "rules": {"checks": 1, "share": 1 / 6},
    }
    assert report.layers == {
        "rules": {"unsafe": 2, "flagged_unsafe": 1, "safe": 2, "flagged_safe": 0},
        "classifier": {"unsafe": 1, "flagged_unsafe": 1, "safe": 2, "flagged_safe": 2},
    }
    [pair] = report.disagreement
    assert pair["layers"] == ["classifier", "rules"]
    assert (pair["both_saw"], pair["disagree"]) == (3, 3)
    assert pair["only_classifier"] == {"unsafe": 1, "safe": 2}


def test_latency(report: Report) -> None:
    latency = report.latency
    assert latency["checks"]["checks"] == 6
    assert latency["checks"]["p50_ms"] == 1.0
    assert latency["checks"]["p99_ms"] > 9
    assert {tokens: times["checks"] for tokens, times in latency["tokens"].items()} == {"20": 4, "200": 1, "2000": 1}
    assert latency["checks_per_s_per_core"] == pytest.approx(6 / 0.015)
    assert latency["layers"]["rules"] == {"checks": 4, "p50_ms": 2.0, "p99_ms": 2.0}
    assert latency["entities"]["checks"] == 1
    assert tokens_of("x" * 9) == 3


def test_for_programs_it_is_json_without_nan(report: Report) -> None:
    content = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert content["overall"]["unsafe"] == 3
    assert content["sets"]["good"]["recall"]["value"] is None
    assert content["entities"]["types"] == {}
    assert content["versions"] == {"policy": "p1"}


def test_for_people_it_is_tables(report: Report) -> None:
    shown = table.render(report)
    assert "7 texts judged by policy p1" in shown
    for title in ("BY DIRECTION", "BY HEAD", "BY SET", "FALSE POSITIVES ON BENIGN PROMPTS", "DECIDED BY", "LATENCY"):
        assert title in shown
    assert "BY CATEGORY" not in shown, "categories of few texts stand in the JSON only"
    assert "nan" not in shown
    assert max(map(len, shown.splitlines())) < 200
    many = report_of(
        *(outcome("unsafe", number / 25, id=str(number), categories=("hate",)) for number in range(25)), resamples=10
    )
    assert "BY CATEGORY" in table.render(many)


def test_only_entities() -> None:
    report = report_of(outcome("safe", 0.0, head="pii", tier="pii"))
    assert report.as_json()["overall"] is None
    assert report.latency["checks"] is None
    assert "LATENCY" in table.render(report)


def test_judging_asks_each_row_in_its_direction(tmp_path: Path) -> None:
    rows = [
        text("unsafe", text="kill", id="1"),
        text("safe", text="hello", id="2", kind="output", head="harm_output"),
        text("unsafe", text="to a@b.c", id="3", head="pii"),
    ]
    judge = ScriptedJudge({"kill": 0.9, "hello": 0.1, "to a@b.c": 0.0}, {"to a@b.c": [FoundSpan("email", 3, 8)]})
    seen: list[int] = []
    outcomes = judge_rows(rows, judge, progress=seen.append)
    assert seen == [1, 2, 3]
    assert judge.asked[-2:] == [("kill", Direction.INPUT), ("hello", Direction.OUTPUT)]
    assert [(one.score, one.flagged, one.tier) for one in outcomes] == [
        (0.9, True, "linear"),
        (0.1, False, "linear"),
        (1.0, True, "pii"),
    ]
    assert all(one.seconds > 0 for one in outcomes)

    file = tmp_path / "out.jsonl"
    write_outcomes(file, outcomes)
    written = file.read_text()
    assert "kill" not in written
    assert "a@b.c" not in written
    lines = [json.loads(line) for line in written.splitlines()]
    assert [(line["id"], line["score"], line["flagged"], line["tier"]) for line in lines] == [
        ("1", 0.9, True, "linear"),
        ("2", 0.1, False, "linear"),
        ("3", 1.0, True, "pii"),
    ]
    assert lines[2]["spans"] == [{"type": "email", "start": 3, "end": 8}]
    with pytest.raises(SettingsError, match="cannot be written"):
        write_outcomes(tmp_path / "no" / "out.jsonl", outcomes)
