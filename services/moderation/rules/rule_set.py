"""Rules, compiled, and the search for them in a text of which more may follow.

All work is on UTF-8 bytes with RE2, whose time is linear in the text whatever the pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import re2

from services.moderation.model import Outcome
from services.moderation.rules.candidate import Candidate, Check
from services.moderation.rules.pattern import Pattern

_MAX_MEMORY_BYTES = 128 << 20
"""For the automata of one expression; RE2 drops its cache and goes on slower when it is full."""

_MAX_PROGRAM = 40_000
"""Instructions of the expression of all rules. Time stays linear above it, but is counted in milliseconds."""

_GROUP = 6
"""Rules that share an expression which tells whether any of them has to be asked."""


class RulesTooLargeError(ValueError):
    """The rules together would be slow. The text says what to do about it."""


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """What a rule looks for and what a match means.

    `max_bytes` cuts the matches of a pattern that has no longest match. None for all others.
    """

    pattern: Pattern
    ignore_case: bool
    check: Check | None
    max_bytes: int | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class RuleScan:
    """What one rule finds in a text, as byte offsets.

    Attributes:
        spans: The matches that no later text can change, in order.
        frontier: No other match begins before it, whatever follows.
        growing: Start of a match that stands already and that later text may lengthen or undo; None without one.
    """

    spans: Sequence[tuple[int, int]]
    frontier: int
    growing: int | None


class Rule:
    """One rule, compiled."""

    __slots__ = ("_beginnings", "_check", "_whole", "max_bytes", "outcome")

    def __init__(self, spec: RuleSpec) -> None:
        self.outcome = spec.outcome
        self.max_bytes = spec.max_bytes
        self._check = spec.check
        self._whole = _compile(_whole(spec))
        self._beginnings = _compile(rf"(?:{_beginnings(spec)})\z")

    def scan(self, text: bytes, start: int, *, final: bool) -> RuleScan:
        """Find matches that begin at `start` or later. The bytes before `start` are context for `\\b`.

        Of two matches that overlap the one that begins first counts, of two that begin together the longer one. With
        `final` nothing follows the text.
        """
        spans: list[tuple[int, int]] = []
        frontier = len(text) if final else self._frontier(text, start)
        while (match := self._whole.search(text, start)) is not None:
            begin, end = match.span()
            if begin >= frontier:
                return RuleScan(spans, frontier, begin)
            if self.max_bytes is not None and end - begin > self.max_bytes:
                # What follows the cut stays in sight, so that `\b` at its end means the same however the text came.
                cut = self._whole.match(text, begin, begin + self.max_bytes)
                end = begin if cut is None else cut.end()
            span = self._checked(text, begin, end) if end > begin else None
            if span is None:
                start = begin + 1
                continue
            if span[0] < span[1]:
                spans.append(span)
            start = max(span[1], begin + 1)
            if start > frontier:
                # The place where a match might have been beginning is inside of what was found.
                frontier = self._frontier(text, start)
        return RuleScan(spans, frontier, None)

    def _checked(self, text: bytes, begin: int, end: int) -> tuple[int, int] | None:
        """The part of a match that counts. That what follows a match has arrived makes it one, so `after` is known."""
        if self._check is None:
            return begin, end
        found = text[begin:end].decode()
        part = self._check(Candidate(found, _character_before(text, begin), _character_at(text, end)))
        if part is None:
            return None
        start = begin + len(found[: part[0]].encode())
        return start, start + len(found[part[0] : part[1]].encode())

    def _frontier(self, text: bytes, start: int) -> int:
        live = self._live(text, start)
        if self.max_bytes is not None and len(text) - live > self.max_bytes:
            # Whatever begins there is decided by the longest match that counts.
            live = self._live(text, len(text) - self.max_bytes)
        return live

    def _live(self, text: bytes, start: int) -> int:
        """The first place from which the rest of the text is the beginning of a match; its end when there is none."""
        match = self._beginnings.search(text, start)
        return len(text) if match is None else int(match.start())


class RuleGroup:
    """A few rules of a set, with expressions that mostly spare asking each of them.

    Attributes:
        places: Of the rules in their set.
    """

    __slots__ = ("_interest", "_shortest_bytes", "_whole", "places")

    def __init__(self, specs: Sequence[RuleSpec], at: int) -> None:
        group = specs[at : at + _GROUP]
        self.places = range(at, at + len(group))
        self._whole = _compile("|".join(_whole(spec) for spec in group))
        self._interest = _compile(_any_interest(group))
        self._shortest_bytes = min((spec.max_bytes for spec in group if spec.max_bytes is not None), default=None)

    def frontier(self, text: bytes, start: int, *, final: bool) -> int | None:
        """The place before which no match of its rules begins, whatever follows; None when each has to say itself."""
        match = self._interest.search(text, start)
        if match is None:
            return len(text)
        live = int(match.start())
        is_long = self._shortest_bytes is not None and len(text) - live > self._shortest_bytes
        if is_long or self._whole.search(text, live) is not None:
            return None
        return len(text) if final else live


class RuleSet:
    """All rules of one direction, with one expression that tells in one pass whether any of them has to be asked."""

    __slots__ = ("_any_whole", "_interest", "groups", "longest_bytes", "outcomes", "rules")

    def __init__(self, specs: Sequence[RuleSpec]) -> None:
        self.rules = tuple(Rule(spec) for spec in specs)
        self.outcomes = tuple(spec.outcome for spec in specs)
        self.longest_bytes = max((spec.max_bytes for spec in specs if spec.max_bytes is not None), default=None)
        self._any_whole = _compile_all("|".join(_whole(spec) for spec in specs)) if specs else None
        self._interest = _compile_all(_any_interest(specs)) if specs else None
        self.groups = tuple(RuleGroup(specs, at) for at in range(0, len(specs), _GROUP))

    def first_interest(self, text: bytes, start: int) -> int:
        """The first place where a match begins or may be beginning; the end of the text when there is none."""
        match = None if self._interest is None else self._interest.search(text, start)
        return len(text) if match is None else int(match.start())

    def has_match(self, text: bytes, start: int) -> bool:
        """Whether a match stands in the text from `start` on."""
        return self._any_whole is not None and self._any_whole.search(text, start) is not None


def _character_before(text: bytes, at: int) -> str:
    start = at - 1
    while start > 0 and text[start] & 0xC0 == 0x80:
        start -= 1
    return text[max(start, 0) : at].decode()


def _character_at(text: bytes, at: int) -> str:
    end = at + 1
    while end < len(text) and text[end] & 0xC0 == 0x80:
        end += 1
    return text[at:end].decode()


def _any_interest(specs: Sequence[RuleSpec]) -> str:
    whole = "|".join(_whole(spec) for spec in specs)
    beginnings = "|".join(_beginnings(spec) for spec in specs)
    return rf"{whole}|(?:{beginnings})\z"


def _whole(spec: RuleSpec) -> str:
    return f"(?{'i' if spec.ignore_case else ''}:{spec.pattern.source})"


def _beginnings(spec: RuleSpec) -> str:
    return f"(?{'i' if spec.ignore_case else ''}:{spec.pattern.beginnings})"


def _compile_all(source: str) -> re2._Regexp:
    advice = "write large repeats, above all nested ones, without an upper bound and set max_bytes"
    try:
        compiled = _compile(source)
    except re2.error as error:
        raise RulesTooLargeError(f"all patterns together are too large: {advice}") from error
    if compiled.programsize > _MAX_PROGRAM:
        raise RulesTooLargeError(
            f"all patterns together take {compiled.programsize} instructions, more than {_MAX_PROGRAM}: {advice}"
        )
    return compiled


def _compile(source: str) -> re2._Regexp:
    options = re2.Options()
    options.longest_match = True
    options.never_capture = True
    options.dot_nl = True
    options.max_mem = _MAX_MEMORY_BYTES
    options.log_errors = False
    return re2.compile(source.encode(), options)
