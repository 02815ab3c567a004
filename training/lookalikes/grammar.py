"""The small language in which look-alike rows are written, and its reader.

A YAML file under `data` is one family: `slots` (named lists), and `sections` of `lines`. A line is a text with
alternatives: `{a|b|c}` picks one, `{name}` picks from a slot; both may nest. `shape` says what a line is:

- `text`: a whole prompt (or answer);
- `act`: an infinitive without "to" ("hang a picture"), put into the question forms of `data/frames.yaml`;
- `topic`: a noun phrase, put into forms such as "Explain ...";
- `deed`: what is done as a noun phrase ("target shooting"), put into forms such as "Write a guide for ...".

Harmless and harmful acts go through the same forms, so that a form says nothing about the label.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import yaml

Shape = Literal["text", "act", "topic", "deed", "answer", "refusal"]

_INNERMOST = re.compile(r"\{([^{}]+)\}")
_VOWELS = "aeiou"
# Verbs whose last letter doubles though they have two syllables.
_DOUBLING = frozenset({"admit", "begin", "commit", "control", "forget", "format", "get", "outwit", "program", "refer"})
_UNDOUBLED = frozenset({"open", "gather", "visit", "edit", "exit", "enter", "deliver", "offer", "limit", "answer"})


@dataclass(frozen=True, kw_only=True)
class Section:
    """Lines of one label and shape."""

    label: Literal["safe", "unsafe"]
    categories: tuple[str, ...]
    kind: Literal["input", "output"]
    head: str
    shape: Shape
    each: int
    """Rows made of one line, more where it has many alternatives."""
    answers: int
    """Rows made of one line as what a model says: compliance, or refusal where the act is harmful."""
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Family:
    """One file of look-alikes."""

    name: str
    slots: Mapping[str, Sequence[str]]
    sections: tuple[Section, ...]


def read_family(file: Path, *, shared: Mapping[str, Sequence[str]]) -> Family:
    """Read a family; `shared` are the slots that every family may use.

    Raises:
        ValueError: the file says something that cannot be.
    """
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    slots = {**shared, **read_slots(content.get("slots", {}))}
    sections = tuple(_section(entry, file=file) for entry in content["sections"])
    return Family(name=file.stem, slots=slots, sections=sections)


def read_slots(entries: Mapping[str, str]) -> dict[str, Sequence[str]]:
    """Slots from blocks of text: one item a line, or several between semicolons."""
    return {
        name: tuple(item.strip() for item in re.split(r"[;\n]", block) if item.strip())
        for name, block in entries.items()
    }


def expand(line: str, *, slots: Mapping[str, Sequence[str]], rng: Random) -> str:
    """One text of a line, its alternatives picked by chance.

    Raises:
        ValueError: the line names a slot that is not there.
    """
    text = line
    while match := _INNERMOST.search(text):
        inner = match.group(1)
        options: Sequence[str]
        if "|" in inner:
            options = inner.split("|")
        elif inner in slots:
            options = slots[inner]
        else:
            raise ValueError(f"no slot {inner!r} in: {line}")
        text = text[: match.start()] + rng.choice(options) + text[match.end() :]
    # An alternative may be empty: the blanks around it go.
    return re.sub(r"  +", " ", re.sub(r" +([?.!,])(?=\s|$)", r"\1", text.replace("\\n", "\n"))).strip()


def variants(line: str, *, slots: Mapping[str, Sequence[str]]) -> int:
    """How many texts a line can give, roughly: alternatives inside alternatives count as they are chosen, not each."""
    text, count = line, 1
    while match := _INNERMOST.search(text):
        inner = match.group(1)
        count *= inner.count("|") + 1 if "|" in inner else len(slots.get(inner, ("",)))
        text = text[: match.start()] + text[match.end() :]
    return count


def gerund(act: str) -> str:
    """The act as a noun: "hang a picture" gives "hanging a picture"."""
    verb, space, rest = act.partition(" ")
    return inflected(verb) + space + rest


def inflected(verb: str) -> str:
    """The -ing form of a verb."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "ye", "oe")) and verb != "be":
        return verb[:-1] + "ing"
    return verb + (verb[-1] if _doubles(verb) else "") + "ing"


def has_gerund(act: str) -> bool:
    """Whether turning the first verb is enough: not where a second verb follows, nor where an adverb stands first."""
    return " and " not in act and not act.split(" ", 1)[0].endswith(("ly", "not"))


def _doubles(verb: str) -> bool:
    if verb in _DOUBLING:
        return True
    if verb in _UNDOUBLED or len(verb) < 3 or verb[-1] in "wxy" + _VOWELS:
        return False
    vowels = [letter in _VOWELS for letter in verb]
    return vowels[-2] and not vowels[-3] and sum(vowels) == 1


def _section(entry: Mapping[str, Any], *, file: Path) -> Section:
    label = entry["label"]
    kind = entry.get("kind", "input")
    categories = tuple(entry.get("categories", "").split())
    if label not in ("safe", "unsafe") or kind not in ("input", "output"):
        raise ValueError(f"{file.name}: label {label!r}, kind {kind!r}")
    if (label == "unsafe") != bool(categories):
        raise ValueError(f"{file.name}: categories are for unsafe sections, and for all of them")
    shape = entry.get("shape", "text")
    if shape not in ("text", "act", "topic", "deed"):
        raise ValueError(f"{file.name}: shape {shape!r}")
    return Section(
        label=label,
        categories=categories,
        kind=kind,
        head=_head(label=label, kind=kind, categories=categories),
        shape=shape,
        each=int(entry.get("each", 3 if shape == "act" else 2)),
        answers=int(entry.get("answers", 0)),
        lines=tuple(_lines(entry["lines"])),
    )


def _head(*, label: str, kind: str, categories: Sequence[str]) -> str:
    if kind == "output":
        return "harm_output"
    if label == "safe":
        return "benign"
    return "attack" if "jailbreak" in categories else "harm"


def _lines(block: str) -> Iterator[str]:
    for line in block.splitlines():
        if line.strip() and not line.startswith("# "):
            yield line.strip()
