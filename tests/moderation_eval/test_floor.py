"""The command on a fixed sample, against the floor that the model card claims."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TIMEOUT_S = 400
"""A minute on one core that is free."""

pytestmark = pytest.mark.timeout(TIMEOUT_S + 20)

HERE = Path(__file__).parent
SAMPLE = HERE / "sample"
FLOOR = HERE / "floor.yaml"


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.out)
        return loaded


def moderation_eval(*arguments: str | Path) -> Run:
    command = [sys.executable, "-m", "services.cli", "moderation", "eval", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return Run(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("eval") / "rows.jsonl"


@pytest.fixture(scope="module")
def whole(results: Path) -> Run:
    """The whole sample, once."""
    return moderation_eval(SAMPLE, "--json", "--output", results, "--floor", FLOOR)


def test_the_sample_reaches_the_floor(whole: Run) -> None:
    assert whole.code == 0, whole.err
    assert whole.err == ""


def test_every_text_is_judged_and_none_is_written_down(whole: Run, results: Path) -> None:
    rows = [json.loads(line) for file in SAMPLE.glob("*.jsonl") for line in file.open(encoding="utf-8")]
    assert {row["part"] for row in rows} == {"val"}
    written = [json.loads(line) for line in results.read_text().splitlines()]
    assert {row["id"] for row in written} == {row["id"] for row in rows}
    assert whole.report["rows"] == len(rows)
    assert all("text" not in row for row in written)


def test_all_layers_were_asked(whole: Run) -> None:
    report = whole.report
    assert set(report["layers"]) == {"rules", "attacks", "classifier"}
    assert {"linear", "encoder"} <= set(report["tiers"])
    assert set(report["versions"]) == {"policy", "classifier"}


def test_a_floor_that_cannot_be_reached_fails(tmp_path: Path) -> None:
    floor = tmp_path / "floor.yaml"
    floor.write_text("floors:\n  directions.input.recall: {min: 1.01}\n  directions.input.safe: {min: 1}\n")
    run = moderation_eval(SAMPLE, "--kind=input", "--limit=60", "--layers=rules", "--bootstrap=0", "--floor", floor)
    assert run.code == 1
    assert run.err.startswith("below the floor: directions.input.recall is 0")
    assert run.err.count("below the floor") == 1
    assert "BY DIRECTION" in run.out, "the report is shown all the same"


def test_layers_can_be_switched_off() -> None:
    both = ("--kind=input", "--limit=40", "--bootstrap=0", "--json")
    patterns = moderation_eval(SAMPLE, *both, "--layers=rules,attacks")
    assert patterns.code == 0, patterns.err
    assert set(patterns.report["layers"]) == {"rules", "attacks"}
    assert set(patterns.report["versions"]) == {"policy"}


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"text": "a", "label": "safe"}\n{"text": "b"}\n')
    wrong = moderation_eval(tmp_path)
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.endswith("mine.jsonl, line 2: label: Field required\n")
    for arguments, said in (
        (("--policy=none.yaml", "--layers=rules"), "policy file none.yaml cannot be read"),
        (("--layers=magic",), "no layer magic; there are rules, attacks, classifier"),
        (("--floor=none.yaml",), "floors file none.yaml cannot be read"),
        (("--limit=some",), "'some' is not a whole number"),
    ):
        run = moderation_eval(SAMPLE, *arguments)
        assert run.code == 2
        assert said in run.err
