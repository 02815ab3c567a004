"""What a request is about and how hard it is, by its look. Pure, in time that grows with the text's length alone.

It need not be right, only cheap and right more often than not: a wrong guess costs some money or some quality, and the
experiments show which. It looks at the words and marks that stand in the text, each once; no pattern backtracks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from services.router.vocabulary import (
    CODE_MARKS,
    CODE_SUFFIXES,
    CODE_WORDS,
    HARD_WORDS,
    LATEX_MARKS,
    MATH_SYMBOLS,
    MATH_WORDS,
    REASONING_PHRASES,
    REASONING_WORDS,
    TRACE_MARKS,
)
from services.runtime.routing_policy import RequestClass

CLASSES: tuple[RequestClass, ...] = get_args(RequestClass)

LONGEST_TEXT = 8000
"""Characters that are looked at, from the end."""
LONG_REQUEST = 6000
"""Characters from which on a request without another class is a long one."""
THRESHOLD = 0.35
"""Evidence from which on a class is believed."""
BAND = 0.2
"""How near to the threshold, or two classes to each other, the evidence leaves room for doubt."""

_SHORT_TEXT = 200
_LONGEST_TERM = 64
_BRACKETS = "{}[]()<>;="
_DIGITS = "0123456789"
_OPERATORS = frozenset("+-*/^=<>%×÷")
_EDGES = ".,;:!?\"'`()[]{}<>*_«»„“”¿¡…"

_BASE: Mapping[RequestClass, float] = {"simple": 0.05, "long": 0.3, "reasoning": 0.4, "math": 0.4, "code": 0.35}


@dataclass(frozen=True, slots=True)
class Classification:
    """What a request is taken for. `difficulty` and `evidence` go from 0 to 1."""

    kind: RequestClass
    difficulty: float
    evidence: Mapping[RequestClass, float]
    is_sure: bool
    hard_words: int = 0
    characters: int = 0

    def __str__(self) -> str:
        return f"{self.kind}:{self.difficulty:.2f}"


def classify(text: str, *, characters: int) -> Classification:
    """Classify a request by the end of what the user says and the length of all of it."""
    text = text[-LONGEST_TEXT:]
    lowered = text.lower()
    words = lowered.split()
    # Stripped once they are distinct: most words of a long text stand in it more than once.
    distinct = frozenset(word.strip(_EDGES) for word in frozenset(words))
    latex = sum(lowered.count(mark) for mark in LATEX_MARKS)
    code = _code(text, lowered, distinct, has_latex=latex > 0)
    mathematics = _mathematics(text, words, distinct, latex=latex)
    reasoning = _reasoning(lowered, distinct)
    length = max(characters, len(text))
    long = min(1.0, length / LONG_REQUEST) / 2
    evidence: dict[RequestClass, float] = {
        # No evidence for anything else is what makes a request simple; a short one is so with less doubt.
        "simple": max(0.0, THRESHOLD * 2 - max(code, mathematics, reasoning) - long),
        "code": code,
        "math": mathematics,
        "reasoning": reasoning,
        "long": long,
    }
    return judge(evidence, hard_words=len(distinct & HARD_WORDS), characters=length)


def judge(evidence: Mapping[RequestClass, float], *, hard_words: int, characters: int) -> Classification:
    """Decide by the evidence for each class; the same for that of the rules and of the examples."""
    ranked = sorted(CLASSES, key=lambda name: -evidence[name])
    kind, second = ranked[0], ranked[1]
    strongest = evidence[kind]
    difficulty = _BASE[kind] + 0.06 * min(hard_words, 4) + 0.15 * _saturated(characters, 4000)
    if kind != "simple":
        others = sum(evidence[name] for name in ("code", "math", "reasoning") if name != kind)
        difficulty += 0.15 * min(1.0, strongest) + 0.15 * min(1.0, others)
    near = [evidence[name] for name in ("code", "math", "reasoning")]
    return Classification(
        kind=kind,
        difficulty=min(1.0, max(0.0, difficulty)),
        evidence=evidence,
        is_sure=strongest - evidence[second] > BAND and not any(abs(value - THRESHOLD) < BAND / 2 for value in near),
        hard_words=hard_words,
        characters=characters,
    )


def _code(text: str, lowered: str, distinct: frozenset[str], *, has_latex: bool) -> float:
    marks = sum(text.count(mark) for mark in CODE_MARKS)
    traces = sum(lowered.count(mark) for mark in TRACE_MARKS)
    files = sum(1 for word in distinct if word.endswith(CODE_SUFFIXES))
    points = 2.0 * text.count("```") + marks + 2.0 * traces + 1.5 * files + 1.2 * len(distinct & CODE_WORDS)
    if not has_latex:
        # A few brackets stand in any text; a program has one for every twenty characters.
        density = sum(text.count(bracket) for bracket in _BRACKETS) / max(_SHORT_TEXT, len(text))
        points += max(0.0, density - 0.02) * 40.0
    return _saturated(points, 2.0)


def _mathematics(text: str, words: list[str], distinct: frozenset[str], *, latex: int) -> float:
    symbols = sum(text.count(symbol) for symbol in MATH_SYMBOLS)
    sums = _sums(words) if any(digit in text for digit in _DIGITS) else 0
    return _saturated(0.8 * symbols + 1.5 * latex + 0.8 * sums + 1.4 * len(distinct & MATH_WORDS), 2.0)


def _sums(words: list[str]) -> int:
    """Terms such as `3*x`, and numbers that an operator joins."""
    found = 0
    before_is_number = joined = False
    for raw in words:
        if raw.isalpha():
            before_is_number = joined = False
            continue
        if len(raw) == 1 and raw in _OPERATORS:
            joined = before_is_number
            continue
        word = raw.strip(_EDGES)[:_LONGEST_TERM]
        is_number = any(digit in word for digit in _DIGITS)
        is_term = is_number and not _OPERATORS.isdisjoint(word[1:]) and not _is_plain(word)
        found += is_term or (is_number and joined)
        before_is_number, joined = is_number, False
    return found


def _is_plain(word: str) -> bool:
    """A date, a range, a version or a share of a hundred: digits with an operator in them, and no sum."""
    return not word.strip("0123456789-/.:%")


def _reasoning(lowered: str, distinct: frozenset[str]) -> float:
    phrases = sum(1 for phrase in REASONING_PHRASES if phrase in lowered)
    return _saturated(1.5 * phrases + 1.2 * len(distinct & REASONING_WORDS), 2.0)


def _saturated(points: float, half: float) -> float:
    """0 for nothing, a half at `half`, towards 1 for ever more."""
    return points / (points + half) if points > 0.0 else 0.0
