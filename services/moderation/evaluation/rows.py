"""Labelled texts: folders of JSON lines, checked before anything is judged."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.moderation.model import Direction
from services.runtime.settings import SettingsError
from services.runtime.typed_file import what_is_wrong

_SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")

_Label = Annotated[str, Field(min_length=1, max_length=200)]


class LabelledSpan(BaseModel):
    """A stretch of a text that has an entity such as a card number, `[start, end)` in code points."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    type: _Label
    start: int = Field(ge=0)
    end: int
    value: str | None = None


class LabelledText(BaseModel):
    """A row. Fields that a folder may lack have a meaning without them; those that nobody knows are skipped."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    id: str = Field("", description="default: the file's name and the line")
    text: str = Field(min_length=1)
    label: Literal["safe", "unsafe"]
    categories: tuple[_Label, ...] = Field((), strict=False)
    kind: Literal["input", "output"] = "input"
    set: str = Field("", description="default: the file's name")
    head: str = Field("", description="what the label is about; default: harm, harm_output, or pii where spans stand")
    cluster: str = Field("", description="near-duplicates have the same; default: each row its own")
    part: str = ""
    spans: tuple[LabelledSpan, ...] | None = Field(None, strict=False)

    @property
    def unsafe(self) -> bool:
        """Whether it ought to be flagged."""
        return self.label == "unsafe"

    @property
    def direction(self) -> Direction:
        """Which way it goes."""
        return Direction(self.kind)

    @property
    def is_pii(self) -> bool:
        """Whether it asks for entities rather than for harm."""
        return self.head == "pii"

    @model_validator(mode="after")
    def _spans_lie_in_the_text(self) -> Self:
        for span in self.spans or ():
            if not span.start < span.end <= len(self.text):
                raise ValueError(f"span {span.start} to {span.end} does not lie in the text of {len(self.text)}")
            if span.value is not None and self.text[span.start : span.end] != span.value:
                raise ValueError(f"span {span.start} to {span.end} does not hold its value: are offsets code points?")
        return self


def load_rows(path: Path, *, kind: str = "", part: str = "", limit: int = 0, seed: int = 0) -> list[LabelledText]:
    """Read a folder, or one file.

    Args:
        path: A folder of `.jsonl` or `.ndjson` files, also gzipped, or a file of any name.
        kind: Only rows of this kind.
        part: Only rows of this part, such as `val`.
        limit: At most so many, drawn with `seed`; 0 for all.
        seed: The same seed draws the same rows.

    Raises:
        SettingsError: naming the file, the line and what is wrong there; or there is nothing to judge.
    """
    rows = [
        row
        for file in _files(path)
        for row in _rows_of(file)
        if (not kind or row.kind == kind) and (not part or row.part == part)
    ]
    if not rows:
        wanted = " ".join(f"{name} {value}" for name, value in (("kind", kind), ("part", part)) if value)
        raise SettingsError(f"{path} has no rows{f' of {wanted}' if wanted else ''}")
    if 0 < limit < len(rows):
        chosen = random.Random(seed).sample(range(len(rows)), limit)
        rows = [rows[index] for index in sorted(chosen)]
    return rows


def _files(path: Path) -> Sequence[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SettingsError(f"{path} is neither a folder nor a file")
    files = sorted(file for file in path.iterdir() if file.is_file() and file.name.endswith(_SUFFIXES))
    if not files:
        raise SettingsError(f"{path} has no file that ends in {', '.join(_SUFFIXES)}")
    return files


def _rows_of(file: Path) -> Iterator[LabelledText]:
    name = file.name.removesuffix(".gz").rpartition(".")[0] or file.name
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _row(line, place=f"{file}, line {number}", name=name, number=number)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error


def _row(line: str, *, place: str, name: str, number: int) -> LabelledText:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        # The error's own text may quote the line.
        where = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise SettingsError(f"{place}: not JSON{where}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{place}: a row must be an object, this is a {type(content).__name__}")
    try:
        return LabelledText.model_validate(_completed(content, name=name, number=number))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {what_is_wrong(problem)}".removeprefix(": ")
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise SettingsError(f"{place}: {problems}") from error


def _completed(content: dict[str, Any], *, name: str, number: int) -> dict[str, Any]:
    """The row with what follows from the rest of it where it says nothing; null is nothing."""
    row = {key: value for key, value in content.items() if value is not None}
    row.setdefault("set", name)
    row.setdefault("id", f"{name}:{number}")
    row.setdefault("cluster", f"{name}:{row['id']}")
    if "head" not in row:
        judged = "harm_output" if row.get("kind") == "output" else "harm"
        row["head"] = "pii" if "spans" in row else judged
    return row
