"""Tells when an answer repeats a text that it should keep to itself: the system prompt of a deployment.

What is found is verbatim but for case, blanks and punctuation. A retelling or a translation is not.
"""

from __future__ import annotations

import re
from collections import deque

_EAST_ASIAN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_EAST_ASIAN}]|[^\\W_{_EAST_ASIAN}]+")
_FEWEST_WORDS = 6
"""A text of fewer words is said by chance."""

_LONGEST_RUN = 64
"""Words of one finding; a longer run is several findings, so that none waits for the end of a long one."""


class _Automaton:
    """The suffix automaton of a sequence of words: follows, word by word, the longest stretch of it that is being said.

    Work per word is constant on average, and so is memory per word of the text.
    """

    __slots__ = ("_lengths", "_links", "_next")

    def __init__(self, words: list[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._links = [-1]
        self._lengths = [0]
        last = 0
        for word in words:
            last = self._extend(last, word)

    def _extend(self, last: int, word: str) -> int:
        current = self._add({}, self._lengths[last] + 1, 0)
        at = last
        while at >= 0 and word not in self._next[at]:
            self._next[at][word] = current
            at = self._links[at]
        if at < 0:
            return current
        target = self._next[at][word]
        if self._lengths[at] + 1 == self._lengths[target]:
            self._links[current] = target
            return current
        clone = self._add(dict(self._next[target]), self._lengths[at] + 1, self._links[target])
        while at >= 0 and self._next[at].get(word) == target:
            self._next[at][word] = clone
            at = self._links[at]
        self._links[target] = self._links[current] = clone
        return current

    def _add(self, following: dict[str, int], length: int, link: int) -> int:
        self._next.append(following)
        self._lengths.append(length)
        self._links.append(link)
        return len(self._next) - 1

    def step(self, state: int, length: int, word: str) -> tuple[int, int]:
        """After `word`: the state, and how many of the last words stand in the text in this order."""
        while state and word not in self._next[state]:
            state = self._links[state]
            length = self._lengths[state]
        following = self._next[state].get(word)
        return (0, 0) if following is None else (following, length + 1)


class ProtectedText:
    """A text that answers must not repeat.

    Args:
        text: The text.
        min_words: The fewest words in a row that count. A text of fewer words counts as a whole, one of fewer than six
            never does. Where words are written without spaces, a character is half a word.
    """

    __slots__ = ("_automaton", "_longest_word", "_min_words")

    def __init__(self, text: str, min_words: int = 12) -> None:
        if min_words < _FEWEST_WORDS:
            raise ValueError(f"min_words is {min_words}: fewer than {_FEWEST_WORDS} words are said by chance")
        words = [word.casefold() for word in _WORD.findall(text)]
        per_word = 2 if 2 * sum(map(_is_east_asian, words)) > len(words) else 1
        enough = len(words) >= _FEWEST_WORDS * per_word
        self._min_words = min(min_words * per_word, len(words)) if enough else None
        self._automaton = _Automaton(words if enough else [])
        self._longest_word = max(map(len, words), default=0)

    def watch(self) -> ProtectedTextScanner:
        """Begin with an answer."""
        return ProtectedTextScanner(self._automaton, self._min_words, self._longest_word)


def _is_east_asian(word: str) -> bool:
    return len(word) == 1 and re.fullmatch(f"[{_EAST_ASIAN}]", word) is not None


class ProtectedTextScanner:
    """The search in one answer. What is found does not depend on the pieces in which it comes.

    Attributes:
        length: Code points that have arrived.
        frontier: No finding that is still to come begins before this.
        undecided: Start of a repetition that stands already and still goes on; None without one.
    """

    __slots__ = (
        "_automaton",
        "_longest_word",
        "_matched",
        "_min_words",
        "_partial",
        "_partial_start",
        "_run_end",
        "_run_words",
        "_starts",
        "_state",
        "length",
        "undecided",
    )

    def __init__(self, automaton: _Automaton, min_words: int | None, longest_word: int) -> None:
        self._automaton = automaton
        self._min_words = min_words
        self._longest_word = longest_word
        self._state = 0
        self._matched = 0
        self._starts: deque[int] = deque(maxlen=min_words or 1)
        self._partial = ""
        self._partial_start = 0
        self._run_end = 0
        self._run_words = 0
        self.length = 0
        self.undecided: int | None = None

    @property
    def frontier(self) -> int:
        if self._min_words is None:
            return self.length
        if self.undecided is not None:
            return self.undecided
        if self._matched:
            return self._starts[-min(self._matched, len(self._starts))]
        return self._partial_start if self._partial else self.length

    def feed(self, text: str, *, last: bool = False) -> list[tuple[int, int]]:
        """Take the text that follows; with `last` nothing follows it.

        Returns the ranges of the answer that have turned out to be repetitions, in order.
        """
        base = self.length
        self.length += len(text)
        if self._min_words is None:
            return []
        found: list[tuple[int, int]] = []
        for match in _WORD.finditer(text):
            start, word = base + match.start(), match[0]
            alone = _is_east_asian(word)
            if self._partial and (alone or match.start() > 0):
                self._end_word(found)
            if alone:
                self._take(word, start, start + 1, found)
            else:
                self._partial_start = self._partial_start if self._partial else start
                self._keep(word)
                if match.end() < len(text):
                    self._end_word(found, start + len(word))
        if self._partial and text and self._partial_end(text) is None:
            self._end_word(found, base)
        if last:
            if self._partial:
                self._end_word(found)
            self._close(found)
        return found

    def _partial_end(self, text: str) -> int | None:
        """The length of the text when the unfinished word reaches its end; None when it does not."""
        final = text[-1]
        return len(text) if _WORD.fullmatch(final) is not None and not _is_east_asian(final) else None

    def _keep(self, word: str) -> None:
        # A word that is longer than any of the protected text is none of them: its length is enough to know.
        if len(self._partial) <= 4 * self._longest_word:
            self._partial += word[: 4 * self._longest_word + 1]

    def _end_word(self, found: list[tuple[int, int]], end: int | None = None) -> None:
        word, self._partial = self._partial, ""
        start = self._partial_start
        self._take(word.casefold(), start, start + len(word) if end is None else end, found)

    def _take(self, word: str, start: int, end: int, found: list[tuple[int, int]]) -> None:
        min_words = self._min_words or 0
        self._starts.append(start)
        self._state, self._matched = self._automaton.step(self._state, self._matched, word)
        if self._matched < min_words:
            self._close(found)
            return
        if self.undecided is None:
            self.undecided = self._starts[0]
            self._run_words = min_words - 1
        elif self._run_words == _LONGEST_RUN:
            found.append((self.undecided, self._run_end))
            self.undecided, self._run_words = start, 0
        self._run_end = end
        self._run_words += 1

    def _close(self, found: list[tuple[int, int]]) -> None:
        if self.undecided is not None:
            found.append((self.undecided, self._run_end))
            self.undecided = None
