"""Where messages stand in the tree of a conversation. Pure.

A branch is a run of messages, each following the one before it. A message stands at a depth, from 1, on one branch;
where two messages follow the same one, the second opens a new branch. So a way from the root to a message is a few
ranges of depths, and reading any stretch of it costs the length of the stretch, however large the tree is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands. A depth of 0 is the place before the first message."""

    branch: int
    depth: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """A run of messages on one branch, from depth `low` to `high`, both included."""

    branch: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Path:
    """The way from the root to the end of a branch: on `branches[i]` from depth `starts[i]`."""

    branches: tuple[int, ...] = (0,)
    starts: tuple[int, ...] = (1,)

    def stretches(self, low: int, high: int) -> Sequence[Stretch]:
        """Where the messages of the depths from `low` to `high` stand, root first."""
        found: list[Stretch] = []
        ends = [*(start - 1 for start in self.starts[1:]), high]
        for branch, start, end in zip(self.branches, self.starts, ends, strict=True):
            first, last = max(start, low), min(end, high)
            if first <= last:
                found.append(Stretch(branch, first, last))
        return found

    def fork(self, *, after_depth: int, branch: int) -> Path:
        """The way on a new branch that leaves this one after a depth."""
        kept = [(b, start) for b, start in zip(self.branches, self.starts, strict=True) if start <= after_depth]
        return Path((*(b for b, _ in kept), branch), (*(start for _, start in kept), after_depth + 1))
