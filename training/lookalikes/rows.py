"""From families to rows: forms, casual spelling, duplicates taken out."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Literal, TypedDict

import yaml

from training.lookalikes.grammar import (
    Family,
    Section,
    Shape,
    expand,
    gerund,
    has_gerund,
    read_family,
    read_slots,
    variants,
)
from training.obfuscation import typos

_DATA = Path(__file__).parent / "data"
_FRAMES = "frames.yaml"
_ATTEMPTS = 4
"""Tries per row that is wanted: a line with few alternatives repeats itself."""
_MOST = 3
"""A line with many alternatives gives up to so many times the rows of one without."""
_CASUAL_SHARE = 0.15
_VAL_PERCENT = 12


class Row(TypedDict):
    """A row in the form of the public data's rows."""

    id: str
    text: str
    label: Literal["safe", "unsafe"]
    categories: list[str]
    source: str
    kind: Literal["input", "output"]
    set: str
    head: str
    nc: bool
    cluster: str
    part: Literal["train", "val"]


def generate(*, seed: int, count: int | None = None) -> list[Row]:
    """Rows of all families, the same for the same seed.

    Args:
        seed: picks alternatives, forms and the order.
        count: how many rows at most; a sample of all when fewer are asked for than there are.
    """
    rng = Random(seed)
    seen: set[str] = set()
    rows: list[Row] = []
    for family, frames in _families():
        rows.extend(_rows(family, frames=frames, seed=seed, seen=seen))
    rng.shuffle(rows)
    return rows if count is None else rows[:count]


@cache
def _families() -> tuple[tuple[Family, Mapping[str, Sequence[str]]], ...]:
    content = yaml.safe_load((_DATA / _FRAMES).read_text(encoding="utf-8"))
    shared = read_slots(content["slots"])
    frames = {shape: tuple(block.splitlines()) for shape, block in content["frames"].items()}
    files = sorted(file for file in _DATA.glob("*.yaml") if file.name != _FRAMES)
    return tuple((read_family(file, shared=shared), frames) for file in files)


def _rows(family: Family, *, frames: Mapping[str, Sequence[str]], seed: int, seen: set[str]) -> Iterator[Row]:
    number = 0
    for place, written in enumerate(family.sections):
        for line in written.lines:
            mark = f"{place}-{zlib.crc32(line.encode()):08x}"
            # By line, so that all forms of one act stay on one side.
            part: Literal["train", "val"] = "val" if zlib.crc32(line.encode()) % 100 < _VAL_PERCENT else "train"
            for use, section in _uses(written):
                # Chance of its own for each line: a line more changes nothing in the others.
                rng = Random(f"{seed}:{use}:{line}")
                for text in _texts(line, section=section, family=family, frames=frames, rng=rng, seen=seen):
                    number += 1
                    yield Row(
                        id=f"lookalike_{family.name}-{number:05d}",
                        text=text,
                        label=section.label,
                        categories=list(section.categories),
                        source="generated",
                        kind=section.kind,
                        set=f"lookalike_{family.name}",
                        head=section.head,
                        nc=False,
                        cluster=f"lookalike_{family.name}:{mark}{use}",
                        part=part,
                    )


def _uses(section: Section) -> Iterator[tuple[str, Section]]:
    """The section as it is written, and what a model could say with its lines."""
    yield "", section
    if section.answers:
        shape: Shape = "answer" if section.shape == "act" else section.shape
        categories = ("harmful_output", *section.categories) if section.label == "unsafe" else ()
        said = replace(section, kind="output", head="harm_output", each=section.answers)
        yield "-answer", replace(said, shape=shape, categories=categories)
        if section.label == "unsafe" and section.shape == "act":
            yield "-refusal", replace(said, shape="refusal", label="safe", categories=())


def _texts(
    line: str,
    *,
    section: Section,
    family: Family,
    frames: Mapping[str, Sequence[str]],
    rng: Random,
    seen: set[str],
) -> Iterator[str]:
    made = 0
    words: list[frozenset[str]] = []
    wanted = min(max(section.each, variants(line, slots=family.slots)), section.each * _MOST)
    for _ in range(wanted * _ATTEMPTS):
        if made == wanted:
            return
        text = _text(line, section=section, slots=family.slots, frames=frames, rng=rng)
        if section.kind == "input" and rng.random() < _CASUAL_SHARE:
            text = _casual(text, rng)
        key = normalised(text)
        bag = frozenset(key.split())
        if key in seen or any(_similarity(bag, other) > 0.85 for other in words):
            continue
        seen.add(key)
        words.append(bag)
        made += 1
        yield text


def _text(
    line: str, *, section: Section, slots: Mapping[str, Sequence[str]], frames: Mapping[str, Sequence[str]], rng: Random
) -> str:
    content = expand(line, slots=slots, rng=rng)
    if section.shape == "text":
        # What a slot holds stands in lower case, for it may stand anywhere.
        return content[0].upper() + content[1:] if line.startswith("{") else content
    forms = frames[section.shape]
    if not has_gerund(content):
        forms = [frame for frame in forms if "<ing>" not in frame]
    frame = expand(rng.choice(forms), slots=slots, rng=rng)
    text = frame.replace("<ing>", gerund(content)).replace("<act>", content).replace("<topic>", content)
    if section.kind == "output":
        return re.sub(r"(^|[.!?:] |\n\W*)([a-z])", lambda match: match.group(1) + match.group(2).upper(), text)
    return text[0].upper() + text[1:] if frame.startswith("<") else text


def _casual(text: str, rng: Random) -> str:
    """As people type in a hurry."""
    if rng.random() < 0.8:
        text = text.lower()
    if rng.random() < 0.6:
        text = text.rstrip("?.!")
    if rng.random() < 0.4:
        text = typos(text, rng)
    return text.strip()


def normalised(text: str) -> str:
    """A text without what does not make it another one: case and signs."""
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def _similarity(left: frozenset[str], right: frozenset[str]) -> float:
    return len(left & right) / max(1, len(left | right))
