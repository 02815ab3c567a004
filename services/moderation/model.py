"""The words of moderation. Offsets are Unicode code points from the start of a text."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Action(IntEnum):
    """What to do about a finding; a greater value is stricter."""

    ALLOW = 1
    REDACT = 2
    BLOCK = 3


class Direction(StrEnum):
    """Which way a text goes: from a user to a model, or from a model to a user."""

    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a match of one rule means in one direction."""

    category: str
    rule: str
    action: Action
    replacement: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One match of a rule, `[start, end)`."""

    start: int
    end: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of a whole text. `redacted_text` is set when the action is REDACT."""

    action: Action
    findings: tuple[Finding, ...]
    redacted_text: str = ""


@dataclass(frozen=True, slots=True)
class Retraction:
    """A range `[start, end)` of an answer, as the model wrote it, that must be shown as `replacement`."""

    start: int
    end: int
    replacement: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Segment:
    """The next stretch of a generation's text."""

    generation_id: str
    text: str
    last: bool = False
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a generation stands: what is clear, what must go since the last progress, whether this is the last."""

    watermark: int
    retractions: tuple[Retraction, ...] = ()
    done: bool = False
