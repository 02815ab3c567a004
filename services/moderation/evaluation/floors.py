"""Floors: what figures must reach, so that a change that makes the judgement worse does not go unseen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.runtime.settings import SettingsError
from services.runtime.typed_file import load_typed_file


class Floor(BaseModel):
    """Between what a figure must lie."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("say min, max or both")
        return self


class FloorsFile(BaseModel):
    """The whole file: a floor for each figure by its path in what `--json` prints, such as `heads.harm.recall`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    floors: dict[str, Floor] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class BrokenFloor:
    """A figure that is not where it must be. `value` is None when it could not be computed."""

    path: str
    value: float | None
    floor: Floor

    def __str__(self) -> str:
        value = "cannot be computed" if self.value is None else f"is {self.value:.4g}"
        wanted = [
            f"{word} {bound:g}"
            for word, bound in (("at least", self.floor.min), ("at most", self.floor.max))
            if bound is not None
        ]
        return f"{self.path} {value}; it must be {' and '.join(wanted)}"


def load_floors(path: Path) -> FloorsFile:
    """Read a file of floors, YAML or JSON.

    Raises:
        SettingsError: naming what is wrong with it.
    """
    return load_typed_file(path, FloorsFile, kind="floors")


def broken_floors(report: Mapping[str, Any], floors: FloorsFile) -> list[BrokenFloor]:
    """The floors that a report breaks.

    Raises:
        SettingsError: a floor is for a figure that the report lacks: it would never break.
    """
    broken = []
    for path, floor in floors.floors.items():
        value = _value(report, path)
        low = value is None or (floor.min is not None and value < floor.min)
        high = value is not None and floor.max is not None and value > floor.max
        if low or high:
            broken.append(BrokenFloor(path, value, floor))
    return broken


def _value(report: Mapping[str, Any], path: str) -> float | None:
    found = _at(report, path)
    if isinstance(found, Mapping):
        # A figure with its interval.
        found = found.get("value", _MISSING)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise SettingsError(f"floors: {path} is no figure of this evaluation; see the keys that --json prints")
    return float(found)


def _at(node: Any, path: str) -> Any:
    """What stands at a path whose names may hold dots themselves."""
    if not path:
        return node
    if not isinstance(node, Mapping):
        return _MISSING
    for name, inner in node.items():
        if path == name:
            return inner
        if path.startswith(f"{name}.") and (found := _at(inner, path[len(name) + 1 :])) is not _MISSING:
            return found
    return _MISSING


_MISSING = object()
