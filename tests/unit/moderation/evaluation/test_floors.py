"""Floors of figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.moderation.evaluation.floors import FloorsFile, broken_floors, load_floors
from services.runtime.settings import SettingsError

REPORT: dict[str, Any] = {
    "overall": {"safe": 3, "recall": {"value": 0.7, "low": 0.6, "high": 0.8}},
    "sets": {"v1.0": {"roc_auc": {"value": None, "low": None, "high": None}}},
    "latency": {"checks": {"p99_ms": 4.5}, "name": "x", "on": True},
}


def broken(**floors: dict[str, float]) -> list[str]:
    file = FloorsFile.model_validate({"floors": {path.replace("__", "."): floor for path, floor in floors.items()}})
    return [str(one) for one in broken_floors(REPORT, file)]


def test_figures_that_reach_them() -> None:
    assert broken(overall__recall={"min": 0.7, "max": 0.7}, latency__checks__p99_ms={"max": 5}) == []
    assert broken(overall__recall__low={"min": 0.6}) == []


def test_figures_that_do_not() -> None:
    assert broken(overall__recall={"min": 0.71}) == ["overall.recall is 0.7; it must be at least 0.71"]
    assert broken(latency__checks__p99_ms={"min": 1, "max": 2}) == [
        "latency.checks.p99_ms is 4.5; it must be at least 1 and at most 2"
    ]


def test_what_cannot_be_computed_is_below() -> None:
    found = broken_floors(REPORT, FloorsFile.model_validate({"floors": {"sets.v1.0.roc_auc": {"max": 1}}}))
    assert [str(one) for one in found] == ["sets.v1.0.roc_auc cannot be computed; it must be at most 1"]


@pytest.mark.parametrize("path", ["overall.recal", "overall", "nothing", "latency.name", "latency.on", "sets.v1"])
def test_a_floor_for_nothing_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match="is no figure"):
        broken_floors(REPORT, FloorsFile.model_validate({"floors": {path: {"min": 0}}}))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("floors: {}", "at least 1 item"),
        ("floors: {a: {}}", "say min, max or both"),
        ("floors: {a: {least: 1}}", "there is no such key"),
        ("floors: [", "is not YAML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, wrong: str) -> None:
    file = tmp_path / "floor.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=wrong):
        load_floors(file)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_floors(tmp_path / "none.yaml")


def test_json_is_yaml_too(tmp_path: Path) -> None:
    file = tmp_path / "floor.json"
    file.write_text('{"floors": {"overall.recall": {"min": 0.5}}}')
    assert broken_floors(REPORT, load_floors(file)) == []
