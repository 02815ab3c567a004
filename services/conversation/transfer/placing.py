"""Gives the messages of a whole tree their places. Pure, and without recursion: chains are long.

Of the messages that follow the same one, that with the most below it goes on with the branch. So no way from the root
changes its branch more than log2(n) times, whatever the tree looks like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.conversation.tree import Path, Place


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the messages of a tree stand."""

    places: Sequence[Place]
    paths: Mapping[int, Path]
    """For each branch the way from the root to its end; branch 0 is not among them, for it is its own way."""


def place(parents: Sequence[int]) -> Placed:
    """Place messages of which each comes after the one it follows.

    Args:
        parents: For each message the index of the one it follows; -1 for none.
    """
    heirs = _heirs(parents)
    paths = {0: Path()}
    places: list[Place] = []
    for index, parent in enumerate(parents):
        before = places[parent] if parent >= 0 else Place(0, 0)
        branch = before.branch
        if heirs[parent] != index:
            branch = len(paths)
            paths[branch] = paths[before.branch].fork(after_depth=before.depth, branch=branch)
        places.append(Place(branch, before.depth + 1))
    del paths[0]
    return Placed(places, paths)


def _heirs(parents: Sequence[int]) -> Mapping[int, int]:
    """For each message that is followed, and for -1: which of those that follow it goes on with its branch."""
    sizes = [1] * len(parents)
    heirs: dict[int, int] = {}
    for index in range(len(parents) - 1, -1, -1):
        parent = parents[index]
        if parent >= 0:
            sizes[parent] += sizes[index]
        # Its size is final: all that comes below it has been seen.
        if parent not in heirs or sizes[index] >= sizes[heirs[parent]]:
            heirs[parent] = index
    return heirs
