"""Where an answer that is being written is looked at as a whole stretch: places that only its text decides.

The stretches overlap by half, so that nothing hides on a seam, and they are the same however the text arrives. The
classifier's thresholds for streams are calibrated on just these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SENTENCE_END = re.compile(r"[.!?\n。！？؟।]")


@dataclass(frozen=True, slots=True)
class Stretch:
    """The text of `[start, end)`: the segment that ends there with the one before it. `begins` is where it begins."""

    start: int
    begins: int
    end: int


class Segmenter:
    """Finds the ends of the segments of one text.

    A segment ends with the first sentence that reaches `length` code points, or at twice that.
    """

    __slots__ = ("_begin", "_length", "_looked", "_previous", "arrived")

    def __init__(self, length: int) -> None:
        self._length = length
        self._previous = 0
        self._begin = 0
        self._looked = 0
        self.arrived = 0

    def feed(self, text: str) -> Iterator[Stretch]:
        """Take the text that follows; yields the stretches that are complete."""
        base = self.arrived
        self.arrived += len(text)
        while self.arrived - self._begin >= self._length:
            # The last character of a segment stands at its length or later.
            search_from = max(self._begin + self._length - 1, self._looked)
            hard_end = self._begin + 2 * self._length
            match = _SENTENCE_END.search(text, max(0, search_from - base), max(0, hard_end - base))
            if match is not None:
                end = base + match.end()
            elif self.arrived >= hard_end:
                end = hard_end
            else:
                self._looked = self.arrived
                return
            yield self._close(end)

    def _close(self, end: int) -> Stretch:
        stretch = Stretch(self._previous, self._begin, end)
        self._previous, self._begin, self._looked = self._begin, end, end
        return stretch


def stretches(text: str, length: int) -> list[Stretch]:
    """All complete stretches of a whole text; what follows the last one is for the check of the whole."""
    return list(Segmenter(length).feed(text))
