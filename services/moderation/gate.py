"""What a user may see of an answer while it is being written, and what must be taken back.

What remains of an answer after all retractions depends on its text alone, not on how it was cut into segments nor on
when the classifier answered: findings of patterns take effect at the place where they begin, those of the classifier
where the stretch ends that it looked at, and the first of them that refuses ends the answer. Only a layer that the
policy does without, because it did not answer in time, is an exception.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

from services.moderation.model import Action, Finding, Layer, Outcome, Progress, Retraction
from services.moderation.policy import UserPolicy
from services.moderation.rules.scanner import Scanner
from services.moderation.segments import Segmenter, Stretch

_LEAK_HELD_FROM = 32
"""Code points of an answer that repeats the instructions from which what follows waits: shorter runs are chance."""


class LeakScanner(Protocol):
    """Finds where an answer repeats its instructions."""

    @property
    def frontier(self) -> int:
        """No finding begins before it any more."""
        ...

    def feed(self, text: str, *, last: bool = False) -> Sequence[tuple[int, int]]:
        """Take the text that follows; returns the ranges that have become certain."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """A text that the classifier is asked about: a stretch of an answer, or the whole of it."""

    stretch: Stretch
    text: str
    whole: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """What comes of a question: the outcomes that the policy derives, with their scores, strictest first.

    `unchecked`: there is no answer, and the policy does without.
    """

    outcomes: Sequence[tuple[Outcome, float]] = ()
    unchecked: bool = False


class Gate:
    """The gate of one answer.

    Text passes as soon as no match can begin in it, which in ordinary prose is at once. What may be the beginning of a
    match waits, but never more than `max_held` code points: of a long one the first part is shown, and retracted when
    it turns out to be one. What is already known to be a match waits however long it grows, since none of it will be
    shown. And text runs ahead of what the classifier has looked at by no more than `ahead` code points.

    The watermark passes over what is retracted, for its replacement may be shown; after a refusal it stands at its end.

    Args:
        policy: The policy of the user whom the answer is for.
        ask: Asks the classifier; the answer comes to `reply`, in any order. None: it has no say.
        leaks: Finds where the answer repeats its instructions; None when it may.
    """

    __slots__ = (
        "_ahead",
        "_ask",
        "_cleared",
        "_covered",
        "_found",
        "_last",
        "_leak_outcome",
        "_leaks",
        "_max_held",
        "_open",
        "_pieces",
        "_refusal",
        "_replies",
        "_scanner",
        "_segmenter",
        "_skipped",
        "_unchecked",
        "_watermark",
        "_whole",
        "done",
        "findings",
    )

    def __init__(
        self,
        *,
        policy: UserPolicy,
        ask: Callable[[Question], None] | None = None,
        leaks: LeakScanner | None = None,
        leak_outcome: Outcome | None = None,
    ) -> None:
        stream = policy.stream
        self._scanner = Scanner(policy.output.rules, policy.output.outcomes)
        self._max_held = stream.max_held
        self._ahead = stream.ahead
        self._ask = ask
        self._segmenter = Segmenter(stream.segment)
        self._leaks = leaks
        self._leak_outcome = leak_outcome
        self._pieces: list[str] = []
        self._found: list[Finding] = []  # of patterns, before which another may still come
        self._refusal: Retraction | None = None  # of a pattern, waits for the classifier's word on what comes before
        self._open: deque[Stretch] = deque()  # asked, in order
        self._replies: dict[Stretch, Reply] = {}
        self._whole: Stretch | None = None
        self._cleared = 0  # up to where the classifier has spoken
        self._watermark = 0
        self._covered = 0
        self._last = False
        self._unchecked = False
        self._skipped = 0
        self.findings: list[Finding] = []
        """All that took effect so far."""
        self.done = False
        """Whether nothing more will be said: the answer was checked to its end, or refused."""

    @property
    def action(self) -> Action:
        """The strictest that was done so far."""
        return max((finding.outcome.action for finding in self.findings), default=Action.ALLOW)

    @property
    def text(self) -> str:
        """All that was written."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def feed(self, text: str, *, last: bool) -> Progress:
        """Take the text that follows. Not to be called once `done`."""
        if self._refusal is not None:
            # What follows it will not be shown, whatever it is.
            self._skipped += len(text)
            return self._progress([])
        self._last = last
        if text:
            self._pieces.append(text)
        self._found += self._scanner.feed(text, last=last)
        if self._leaks is not None and self._leak_outcome is not None:
            self._found += [Finding(start, end, self._leak_outcome) for start, end in self._leaks.feed(text, last=last)]
        if self._ask is not None:
            for stretch in self._segmenter.feed(text):
                self._question(stretch)
        retractions = list(self._take_patterns()) if self._found else []
        return self._advance(retractions) or self._progress([])

    def reply(self, question: Question, reply: Reply) -> Progress | None:
        """Take the classifier's word; None when there is nothing new to say."""
        if self.done:
            return None
        self._replies[question.stretch] = reply
        return self._advance([])

    def close(self) -> None:
        """Nothing more will be asked. Who asks knows the gate, and the two would else keep each other in memory until
        the collector of cycles comes by, which is seldom."""
        self._ask = None

    def _question(self, stretch: Stretch, *, whole: bool = False) -> None:
        self._open.append(stretch)
        if self._ask is not None:
            self._ask(Question(stretch, self.text[stretch.start : stretch.end], whole))

    def _take_patterns(self) -> Iterator[Retraction]:
        """The retractions of what patterns have found for certain; one that refuses is put by."""
        frontier = self._pattern_frontier()
        certain = (finding for finding in self._found if self._last or finding.start < frontier)
        ready = sorted(certain, key=lambda finding: (finding.start, -finding.outcome.action))
        self._found = [finding for finding in self._found if not self._last and finding.start >= frontier]
        retractions, self._covered = resolve(ready, covered=self._covered)
        for retraction in retractions:
            if retraction.outcome.action.refuses:
                self._refusal = retraction
            else:
                yield retraction
        self.findings += takewhile(lambda finding: not finding.outcome.action.refuses, ready)

    def _pattern_frontier(self) -> int:
        frontier = self._scanner.frontier
        return frontier if self._leaks is None else min(frontier, self._leaks.frontier)

    def _advance(self, retractions: list[Retraction]) -> Progress | None:
        """Let the classifier's words take effect in order, and say how far the answer is clear."""
        ending = self._classified(retractions)
        if ending is None and self._refusal is not None and not self._open_before(self._refusal.start):
            ending = self._refusal
            self.findings.append(Finding(ending.start, ending.end, ending.outcome))
        if ending is not None:
            return self._end(retractions, ending)
        if self._last and self._whole is None and self._wants_whole:
            self._whole = Stretch(0, 0, self._scanner.length)
            self._question(self._whole, whole=True)
        self.done = self._last and self._refusal is None and not self._open and not self._found
        clear = self._clear()
        moved = clear > self._watermark
        self._watermark = max(self._watermark, clear)
        if not (moved or retractions or self.done):
            return None
        return self._progress(retractions)

    def _classified(self, retractions: list[Retraction]) -> Retraction | None:
        """Take the replies that nothing can come before any more. Returns the retraction that ends the answer."""
        while self._open and self._open[0] in self._replies:
            stretch = self._open[0]
            if not self._last and self._refusal is None and self._pattern_frontier() < stretch.end:
                return None
            if self._refusal is not None and self._refusal.start < stretch.end:
                return None
            self._open.popleft()
            reply = self._replies.pop(stretch)
            self._unchecked = self._unchecked or reply.unchecked
            self._cleared = stretch.end
            for outcome, score in reply.outcomes:
                self.findings.append(Finding(stretch.start, stretch.end, outcome, score))
            if reply.outcomes:
                outcome, _ = reply.outcomes[0]
                if outcome.action.refuses:
                    # Patterns may be ahead of the classifier.
                    self.findings = [finding for finding in self.findings if finding.start < stretch.end]
                    end = max(stretch.end, self._watermark, self._covered)
                    return Retraction(stretch.start, end, outcome.replacement, outcome)
                if outcome.action is Action.REDACT:
                    retractions.append(Retraction(stretch.begins, stretch.end, outcome.replacement, outcome))
        return None

    @property
    def _wants_whole(self) -> bool:
        return self._ask is not None and self._scanner.length > 0 and self._refusal is None and not self._open

    def _open_before(self, place: int) -> bool:
        return bool(self._open) and self._open[0].end <= place

    def _end(self, retractions: list[Retraction], ending: Retraction) -> Progress:
        self.done = True
        self._open.clear()
        self._watermark = max(self._watermark, ending.end)
        return self._progress([*retractions, ending])

    def _progress(self, retractions: Iterable[Retraction]) -> Progress:
        findings = self.findings
        return Progress(
            watermark=self._watermark,
            retractions=tuple(retractions),
            done=self.done,
            action=self.action if findings else Action.ALLOW,
            categories=tuple(dict.fromkeys(finding.outcome.category for finding in findings)) if findings else (),
            unchecked=(Layer.CLASSIFIER,) if self._unchecked else (),
            seen=self._scanner.length + self._skipped,
        )

    def _clear(self) -> int:
        """Up to where the answer may be shown."""
        if self.done:
            return self._scanner.length
        clear = max(self._passable(), self._covered)
        if self._refusal is not None:
            clear = min(clear, self._refusal.start)
        if self._ask is not None:
            clear = min(clear, self._cleared + self._ahead)
        return clear

    def _passable(self) -> int:
        """Up to where no pattern keeps the text back."""
        scanner = self._scanner
        limit = scanner.length - self._max_held
        frontier = scanner.frontier
        if self._leaks is not None and scanner.length - self._leaks.frontier >= _LEAK_HELD_FROM:
            frontier = min(frontier, self._leaks.frontier)
        if frontier >= limit:
            return frontier
        undecided = scanner.undecided
        return max(frontier, limit if undecided is None else min(limit, undecided))


def resolve(findings: Iterable[Finding], *, covered: int = 0) -> tuple[tuple[Retraction, ...], int]:
    """Turn findings into retractions that do not overlap, ending with the first that refuses.

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
        if outcome.action < Action.REDACT:
            continue
        start = max(finding.start, covered)
        refuses = outcome.action.refuses
        if finding.end > covered or refuses:
            replacement = outcome.replacement if refuses or start == finding.start else ""
            covered = max(covered, finding.end)
            retractions.append(Retraction(start, covered, replacement, outcome))
        if refuses:
            break
    return tuple(retractions), covered


def apply_retractions(text: str, retractions: Sequence[Retraction]) -> str:
    """The text with every retraction applied; after one that refuses nothing follows."""
    parts: list[str] = []
    at = 0
    for retraction in retractions:
        parts += (text[at : retraction.start], retraction.replacement)
        at = retraction.end
        if retraction.outcome.action.refuses:
            return "".join(parts)
    parts.append(text[at:])
    return "".join(parts)
