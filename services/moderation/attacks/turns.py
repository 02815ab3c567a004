"""The last turns of a user as one text, for an attack that is told in parts says nothing in any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SEAM = "\n"
"""Patterns and the classifier take a line break for a blank."""


@dataclass(frozen=True, slots=True)
class JoinedText:
    """Turns joined, oldest first. Offsets are code points of `text` unless said otherwise.

    Attributes:
        text: The joined text.
        seam: Where the newest turn begins.
    """

    text: str
    seam: int

    @property
    def before(self) -> str:
        """What was taken of the turns before the newest."""
        return self.text[: max(0, self.seam - len(_SEAM))]

    def crosses(self, start: int, end: int) -> bool:
        """Whether a range begins before the newest turn and ends in it: neither side says it alone."""
        return start < self.seam < end


def joined_turns(turns: Sequence[str], *, most_turns: int = 4, most_characters: int = 4000) -> JoinedText:
    """Join the newest turn, whole, with the ends of those before it.

    Args:
        turns: What the user said, oldest first; the last is the newest.
        most_turns: Turns that are joined, the newest included.
        most_characters: Characters of the earlier turns together.
    """
    if not turns:
        return JoinedText("", 0)
    *earlier, newest = turns
    taken: list[str] = []
    room = most_characters
    for turn in reversed(earlier[max(0, len(turns) - most_turns) :]):
        if room <= 0:
            break
        part = turn[-room:]
        room -= len(part)
        if part:
            taken.append(part)
    text = _SEAM.join([*reversed(taken), newest])
    return JoinedText(text, len(text) - len(newest))
