"""Which stretches of a text are looked at, so that the work for any text is bounded."""

from __future__ import annotations

from collections.abc import Sequence

PIECE = 480
"""Code points: about a hundred tokens of English."""
OVERLAP = 80
"""Code points that neighbours share, so that no sentence hides on a seam."""
MAX_PIECES = 256
"""That the linear model reads."""
MAX_WINDOWS = 6
"""That the encoder reads."""

_NEAR = 40
"""A piece ends at white space if there is some this close to its end."""


def cut(text: str) -> list[str]:
    """The pieces of a text, in order; of one too long for that, evenly spread ones, the beginning and the end included.

    There is always at least one.
    """
    if len(text) <= PIECE:
        return [text]
    step = PIECE - OVERLAP
    count = 1 + -(-(len(text) - PIECE) // step)
    if count <= MAX_PIECES:
        starts = [min(at * step, len(text) - PIECE) for at in range(count)]
    else:
        starts = [round(at * (len(text) - PIECE) / (MAX_PIECES - 1)) for at in range(MAX_PIECES)]
    return [_whole_words(text, start) for start in starts]


def choose(scores: Sequence[float]) -> list[int]:
    """Places of the pieces that the encoder reads, in order: the first, the last, and those of the highest scores."""
    if len(scores) <= MAX_WINDOWS:
        return list(range(len(scores)))
    between = sorted(range(1, len(scores) - 1), key=lambda at: (-scores[at], at))
    return sorted([0, *between[: MAX_WINDOWS - 2], len(scores) - 1])


def _whole_words(text: str, start: int) -> str:
    """The piece that begins at `start`, without halves of words at its ends where that costs little."""
    end = start + PIECE
    if start and not text[start - 1].isspace():
        head = text[start : start + _NEAR]
        words = head.split(maxsplit=1)
        if len(words) > 1:
            start += len(head) - len(words[1])
    if end < len(text) and not text[end].isspace() and not text[end - 1].isspace():
        words = text[end - _NEAR : end].rsplit(maxsplit=1)
        if len(words) > 1:
            end -= len(words[1])
    return text[start:end]
