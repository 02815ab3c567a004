"""The typed file of attack patterns: what may stand in it, and what a pattern becomes."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

import re2
from pydantic import BaseModel, ConfigDict, Field, model_validator

PACKAGED_PATTERNS = Path(__file__).with_name("patterns.yaml")

GAP = r"""[ \n,;:*_"'()\[\]>-]+"""
"""What a blank of a pattern stands for: what may be between two words of one sentence."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Expression = Annotated[str, Field(min_length=1, max_length=4000)]


class Family(StrEnum):
    """What an attack tries."""

    INSTRUCTION_OVERRIDE = "instruction_override"
    PERSONA = "persona"
    DEVELOPER_MODE = "developer_mode"
    REFUSAL_SUPPRESSION = "refusal_suppression"
    PREFIX_INJECTION = "prefix_injection"
    PROMPT_EXTRACTION = "prompt_extraction"
    FAKE_TURNS = "fake_turns"
    MANY_SHOT = "many_shot"
    ENCODED_PAYLOAD = "encoded_payload"
    HIDDEN_INSTRUCTIONS = "hidden_instructions"
    PAYLOAD_SPLIT = "payload_split"


class Origin(StrEnum):
    """Where a text comes from: the newest message, a turn before it, or what no user wrote (files, tools, the web)."""

    USER = "user"
    HISTORY = "history"
    UNTRUSTED = "untrusted"


class _Entry(BaseModel):
    # Not strict: YAML has no enumerations, so families and origins come as their names.
    model_config = ConfigDict(frozen=True, extra="forbid")


class PatternEntry(_Entry):
    """One wording."""

    name: Name
    languages: list[Annotated[str, Field(pattern=r"^(?:any|[a-z]{2})$")]] = Field(["en"], min_length=1)
    origins: list[Origin] = Field(list(Origin), min_length=1)
    pattern: Expression
    near: Expression | None = None
    unless_before: Expression | None = None
    unless_after: Expression | None = None


class ManyShotEntry(_Entry):
    """Markers of turns; as many pairs of them as `least` in one text are an attack."""

    name: Name
    markers: Expression
    answers: Expression
    least: int = Field(ge=2, le=10_000)
    origins: list[Origin] = Field(list(Origin), min_length=1)


class MentionEntry(_Entry):
    """Words that show that a wording is spoken about, and how far around it they are looked for."""

    words: Expression
    characters: int = Field(ge=0, le=1000)


class PatternFile(_Entry):
    """The whole file."""

    version: str = Field(min_length=1, max_length=64)
    near_characters: int = Field(ge=0, le=10_000)
    many_shot: list[ManyShotEntry] = Field(default_factory=list)
    mention: MentionEntry
    vocabulary: dict[Name, Expression] = Field(default_factory=dict)
    patterns: dict[Family, list[PatternEntry]] = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be_used(self) -> Self:
        entries = [entry for family in self.patterns.values() for entry in family]
        names = [entry.name for entry in entries] + [shots.name for shots in self.many_shot]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two patterns have the same name: {', '.join(repeated)}")
        for name, text in self.vocabulary.items():
            _check(f"vocabulary {name}", text, self.vocabulary)
        for entry in entries:
            for part in (entry.pattern, entry.near, entry.unless_before, entry.unless_after):
                if part is not None:
                    _check(f"pattern {entry.name}", part, self.vocabulary)
            if compile_expression(expand(entry.pattern, self.vocabulary)).search(b"") is not None:
                raise ValueError(f"pattern {entry.name}: it matches the empty text")
        for shots in self.many_shot:
            _check(f"pattern {shots.name}", shots.markers, {})
            _check(f"pattern {shots.name}", shots.answers, {})
        _check("mention", self.mention.words, {})
        return self


def _check(what: str, text: str, vocabulary: dict[str, str]) -> None:
    try:
        compile_expression(expand(text, vocabulary))
    except KeyError as error:
        raise ValueError(f"{what}: no vocabulary {error}") from error
    except TooDeepError as error:
        raise ValueError(f"{what}: {error}") from error
    except re2.error as error:
        (reason,) = error.args
        message = reason.decode() if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"{what}: RE2 refuses it: {message}") from error


_WORD = re.compile(r"(?<!\\[pPx])\{([a-z][a-z_]*)\}")
_PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|( )|.", re.DOTALL)
_DEEPEST = 8
_LONGEST = 200_000


class TooDeepError(ValueError):
    """Expressions of the vocabulary that stand for each other, or for too much."""


def expand(text: str, vocabulary: dict[str, str]) -> str:
    """The expression in plain RE2, with the vocabulary put in.

    Blanks outside of classes become gaps, those inside also stand for line breaks.

    Raises:
        KeyError: with the name that the vocabulary does not have.
        TooDeepError: when names of the vocabulary stand for names again and again.
    """
    for depth in range(_DEEPEST + 1):
        if _WORD.search(text) is None:
            break
        if depth == _DEEPEST or len(text) > _LONGEST:
            raise TooDeepError("its vocabulary is nested too deeply")
        text = _WORD.sub(lambda match: f"(?:{vocabulary[match[1]]})", text)
    return _PIECE.sub(_with_gap, text)


def _with_gap(match: re.Match[str]) -> str:
    piece = match[0]
    if match[1]:
        return f"(?:{GAP})"
    if piece.startswith("[") and not piece.startswith("[^") and " " in piece:
        return piece.replace(" ", r" \n")
    return piece


def compile_expression(source: str) -> re2._Regexp:
    """The expression, compiled for UTF-8 bytes.

    Raises:
        re2.error: when RE2 refuses it.
    """
    return re2.compile(source.encode(), options())


def options() -> re2.Options:
    """How all expressions are compiled."""
    chosen = re2.Options()
    chosen.never_capture = True
    chosen.longest_match = False
    chosen.dot_nl = False
    chosen.max_mem = 256 << 20
    chosen.log_errors = False
    return chosen
