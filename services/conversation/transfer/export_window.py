"""Cuts what an export reads into windows, so that its memory does not grow with the number of messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Run:
    """Messages of one conversation: their positions from `low` to `high`, both included.

    Positions are sequences, or depths on a branch.
    """

    number: int
    """Of the conversation, in the order in which they are written."""
    conversation_id: str
    branch: int
    low: int
    high: int


def windows(runs: Iterable[Run], *, size: int) -> Iterator[Sequence[Run]]:
    """The same runs in order, cut so that each window has at most `size` positions."""
    window: list[Run] = []
    left = size
    for run in runs:
        low = run.low
        while low <= run.high:
            high = min(run.high, low + left - 1)
            window.append(replace(run, low=low, high=high))
            left -= high - low + 1
            low = high + 1
            if not left:
                yield window
                window, left = [], size
    if window:
        yield window


def rest(window: Sequence[Run], *, number: int, position: int) -> Sequence[Run]:
    """What is left of a window after a position of a conversation was read."""
    left: list[Run] = []
    for run in window:
        low = max(run.low, position + 1) if run.number == number else run.low
        if run.number >= number and low <= run.high:
            left.append(replace(run, low=low))
    return left
