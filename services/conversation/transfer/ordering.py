"""The tree of a file's messages, without those that are left out. Pure, and without recursion: chains are long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.conversation.transfer.imported import BrokenConversationError


@dataclass(frozen=True, slots=True)
class Ordered:
    """The messages that are kept: `ids` in the order of creation, each after the one it follows."""

    ids: Sequence[str]
    parents: Sequence[int]
    """For each the index of the one it follows; -1 for none."""
    nearest: Mapping[str, int]
    """For every message of the file, also those that are left out, the nearest that is kept upwards; -1 for none."""

    def shown(self, current: object) -> int:
        """The index of the newest message that is shown, when the file calls this one current; -1 without messages."""
        found = self.nearest.get(current, -1) if isinstance(current, str) else -1
        return found if found >= 0 else len(self.ids) - 1


def order(parents: Mapping[str, str | None], times: Mapping[str, float | None], kept: frozenset[str]) -> Ordered:
    """Put messages in the order of their times, which are corrected so that none is older than what it follows.

    What follows a message that is left out then follows the nearest one above that is kept.

    Args:
        parents: For each message the one that it follows, None for none.
        times: When they were created; None when that is not known, which means with the one that it follows.
        kept: Those that are not left out.

    Raises:
        BrokenConversationError: when messages follow each other in a circle.
    """
    walk = _from_the_roots(parents)
    corrected: dict[str, float] = {}
    above: dict[str, str | None] = {}
    for id_ in walk:
        parent = parents[id_]
        since = corrected[parent] if parent is not None else float("-inf")
        time = times[id_]
        corrected[id_] = since if time is None else max(time, since)
        above[id_] = id_ if id_ in kept else above[parent] if parent is not None else None
    # Stable, so that a message whose time is that of the one it follows stays behind it.
    ids = sorted((id_ for id_ in walk if id_ in kept), key=corrected.__getitem__)
    place: dict[str | None, int] = {None: -1} | {id_: index for index, id_ in enumerate(ids)}
    found = []
    for id_ in ids:
        parent = parents[id_]
        found.append(place[above[parent]] if parent is not None else -1)
    return Ordered(ids, found, {id_: place[above[id_]] for id_ in walk})


def _from_the_roots(parents: Mapping[str, str | None]) -> Sequence[str]:
    """All messages, each behind the one that it follows."""
    children: dict[str | None, list[str]] = {}
    for id_, parent in parents.items():
        children.setdefault(parent, []).append(id_)
    walk = list(children.get(None, ()))
    for id_ in walk:  # it grows meanwhile
        walk.extend(children.get(id_, ()))
    if len(walk) < len(parents):
        raise BrokenConversationError("Its messages follow each other in a circle.")
    return walk
