"""What a user may see of an answer while it is being written, and what must be taken back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.moderation.model import Action, Finding, Progress, Retraction
from services.moderation.rules import RuleSet
from services.moderation.scanner import Scanner


class Gate:
    """The gate of one answer.

    Text passes as soon as no match can begin in it, which in ordinary prose is at once. What may be the beginning of a
    match waits, but never more than `max_held` code points: of a long one the first part is shown, and retracted when
    it turns out to be one. What is already known to be a match waits however long it grows, since none of it will be
    shown. The text that remains after all retractions does not depend on how the answer was cut into segments.

    The watermark passes over what is retracted, for its replacement may be shown; after a block it stands at its end.
    """

    __slots__ = ("_covered", "_max_held", "_scanner", "_watermark", "action", "done")

    def __init__(self, *, rules: RuleSet, max_held: int) -> None:
        self._scanner = Scanner(rules)
        self._max_held = max_held
        self._watermark = 0
        self._covered = 0
        self.action = Action.ALLOW
        """The strictest that was done so far."""
        self.done = False
        """Whether nothing more will be said: the answer was checked to its end, or blocked."""

    def feed(self, text: str, *, last: bool) -> Progress | None:
        """Take the text that follows; None when there is nothing new to say. Not to be called once `done`."""
        scanner = self._scanner
        findings = scanner.feed(text, last=last)
        retractions: tuple[Retraction, ...] = ()
        clear = self._watermark
        if findings:
            retractions, self._covered = resolve(findings, covered=self._covered)
            self.action = max((self.action, *(retraction.outcome.action for retraction in retractions)))
        if retractions and retractions[-1].outcome.action is Action.BLOCK:
            self.done = True
            clear = self._covered
        else:
            self.done = last
            clear = max(self._passable(), self._covered)
        moved = clear > self._watermark
        if moved:
            self._watermark = clear
        if not (moved or retractions or self.done):
            return None
        return Progress(self._watermark, retractions, self.done)

    def _passable(self) -> int:
        scanner = self._scanner
        limit = scanner.length - self._max_held
        if scanner.frontier >= limit:
            return scanner.frontier
        undecided = scanner.undecided
        return max(scanner.frontier, limit if undecided is None else min(limit, undecided))


def resolve(findings: Iterable[Finding], *, covered: int = 0) -> tuple[tuple[Retraction, ...], int]:
    """Turn findings into retractions that do not overlap, ending with the first that blocks.

    Args:
        findings: In the order of their start.
        covered: Up to where earlier retractions of the same text reach.

    Returns:
        The retractions, and up to where all of them reach. Where findings overlap, the first one's replacement stands
        for all of them.
    """
    retractions: list[Retraction] = []
    for finding in findings:
        outcome = finding.outcome
        if outcome.action is Action.ALLOW:
            continue
        start = max(finding.start, covered)
        blocks = outcome.action is Action.BLOCK
        if finding.end > covered or blocks:
            replacement = outcome.replacement if blocks or start == finding.start else ""
            covered = max(covered, finding.end)
            retractions.append(Retraction(start, covered, replacement, outcome))
        if blocks:
            break
    return tuple(retractions), covered


def apply_retractions(text: str, retractions: Sequence[Retraction]) -> str:
    """The text with every retraction applied; after one that blocks nothing follows."""
    parts: list[str] = []
    at = 0
    for retraction in retractions:
        parts += (text[at : retraction.start], retraction.replacement)
        at = retraction.end
        if retraction.outcome.action is Action.BLOCK:
            return "".join(parts)
    parts.append(text[at:])
    return "".join(parts)
