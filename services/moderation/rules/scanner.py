"""Finds what a policy looks for in a text that arrives in pieces. What is found does not depend on the pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from services.moderation.model import Action, Finding, Outcome
from services.moderation.rules.rule_set import RuleSet

_CHUNK = 4096
"""Code points that are taken at once: bounds what is looked at again when much arrives in one piece."""

_MOST_ALLOWED = 1_000
"""Findings of one rule in one text that change nothing. More of them say no more, and a check of each takes long."""


class Scanner:
    """The search in one text.

    Only the end of the text is kept: from the first place where a match may still be beginning. In ordinary prose that
    is the last character. Of a rule that allows, the first thousand findings are all that is looked for.

    Args:
        rules: What is looked for.
        outcomes: What the matches of each rule mean; what the rules say themselves when there are none.
        least: Rules whose matches mean less are not asked.

    Attributes:
        length: Code points that have arrived.
        frontier: Every finding that begins before this has been returned, whatever follows.
        undecided: Start of the first match that stands but may still change or is not yet returned; None without one.
    """

    __slots__ = (
        "_ahead",
        "_allowed",
        "_base",
        "_floor",
        "_found",
        "_growing",
        "_ignored",
        "_outcomes",
        "_rules",
        "_tail",
        "frontier",
        "length",
    )

    def __init__(self, rules: RuleSet, outcomes: Sequence[Outcome] = (), *, least: Action = Action.ALLOW) -> None:
        self._rules = rules
        self._outcomes = outcomes or rules.outcomes
        self._allowed: dict[int, int] = {}  # findings of rules that allow
        self._ignored: set[int] = set()
        if least > Action.ALLOW:
            self._ignored = {place for place, outcome in enumerate(self._outcomes) if outcome.action < least}
        self._tail = b""
        self._base = 0  # code points before the tail
        self._floor = 0  # byte in the tail before which every rule has decided
        self._ahead: dict[int, int] = {}  # rules that have decided further, and up to which byte
        self._found: list[tuple[int, int, int]] = []  # start, end, rule: decided, but another may come before it
        self._growing: int | None = None
        self.length = 0
        self.frontier = 0

    @property
    def undecided(self) -> int | None:
        starts = [start for start, _, _ in self._found]
        if self._growing is not None:
            starts.append(self._growing)
        return min(starts, default=None)

    def feed(self, text: str, *, last: bool = False) -> list[Finding]:
        """Take the text that follows; with `last` nothing follows it.

        Returns the findings that have become certain, by start; of those that begin together the stricter first, then
        the longer.
        """
        self.length += len(text)
        if len(text) <= _CHUNK:
            self._take(text, final=last)
        else:
            edges = [*range(0, len(text), _CHUNK), len(text)]
            for start, end in pairwise(edges):
                self._take(text[start:end], final=last and end == len(text))
        if not self._found:
            return []
        return list(self._release(final=last))

    def _take(self, text: str, *, final: bool) -> None:
        tail = self._tail = self._tail + text.encode()
        self._growing = None
        rules = self._rules
        interest = rules.first_interest(tail, self._floor)
        if interest == len(tail):
            self._floor = interest
            self._ahead.clear()
        elif rules.has_match(tail, interest) or self._is_long(interest):
            self._ask_each(tail, interest, final=final)
        else:
            self._floor = len(tail) if final else interest
            if self._ahead:
                self._ahead = {rule: at for rule, at in self._ahead.items() if at > self._floor}
        self._trim()

    def _is_long(self, interest: int) -> bool:
        longest = self._rules.longest_bytes
        return longest is not None and len(self._tail) - interest > longest

    def _ask_each(self, tail: bytes, start: int, *, final: bool) -> None:
        reached: dict[int, int] = {}
        growing: list[int] = []
        for group in self._rules.groups:
            asked = [place for place in group.places if place not in self._ignored] if self._ignored else group.places
            if not asked:
                continue
            frontier = group.frontier(tail, start, final=final)
            if frontier is not None:
                reached.update((index, max(frontier, self._ahead.get(index, 0))) for index in asked)
                continue
            for index in asked:
                scan = self._rules.rules[index].scan(tail, max(start, self._ahead.get(index, 0)), final=final)
                spans = scan.spans
                if spans and self._outcomes[index].action is Action.ALLOW:
                    spans = self._first_allowed(index, spans)
                self._found += [(self._code_points(begin), self._code_points(end), index) for begin, end in spans]
                reached[index] = scan.frontier
                if scan.growing is not None:
                    growing.append(scan.growing)
        self._floor = min(reached.values(), default=len(tail))
        self._ahead = {index: at for index, at in reached.items() if at > self._floor}
        self._growing = self._code_points(min(growing)) if growing else None

    def _first_allowed(self, index: int, spans: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        before = self._allowed.get(index, 0)
        self._allowed[index] = before + len(spans)
        if self._allowed[index] >= _MOST_ALLOWED:
            self._ignored.add(index)
        return spans[: _MOST_ALLOWED - before]

    def _release(self, *, final: bool) -> Iterator[Finding]:
        outcomes = self._outcomes
        ready = [found for found in self._found if final or found[0] < self.frontier]
        self._found = [found for found in self._found if not final and found[0] >= self.frontier]
        for start, end, index in sorted(
            ready, key=lambda found: (found[0], -outcomes[found[2]].action, -found[1], found[2])
        ):
            yield Finding(start, end, outcomes[index])

    def _trim(self) -> None:
        """Forget what is decided, but for one character, which `\\b` looks at."""
        self.frontier = self._code_points(self._floor)
        cut = self._floor - 1
        while cut > 0 and self._tail[cut] & 0xC0 == 0x80:
            cut -= 1
        if cut > 0:
            self._base = self._code_points(cut)
            self._tail = self._tail[cut:]
            self._floor -= cut
            if self._ahead:
                self._ahead = {rule: at - cut for rule, at in self._ahead.items()}

    def _code_points(self, at: int) -> int:
        return self._base + (at if self._tail.isascii() else len(self._tail[:at].decode()))
