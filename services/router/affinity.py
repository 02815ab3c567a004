"""Which replica a conversation's last turn went to. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Place = TypeVar("Place")


class Affinity(Generic[Place]):
    """Remembers the place of the most recently used keys, and forgets the others.

    A key that is not known has its home on the ring, where every router finds the same one.
    """

    def __init__(self, *, capacity: int, gone: Callable[[Place], bool]) -> None:
        """A place that is `gone` is forgotten when it is met."""
        self._capacity = capacity
        self._gone = gone
        self._places: OrderedDict[int, Place] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def find(self, keys: Sequence[int]) -> Place | None:
        """The place of the first key that has one."""
        for key in keys:
            place = self._places.get(key)
            if place is None:
                continue
            if not self._gone(place):
                self._places.move_to_end(key)
                return place
            del self._places[key]
        return None

    def record(self, keys: Sequence[int], place: Place) -> None:
        """A generation with these keys, nearest first, goes there.

        The nearest is what it is itself, so it moves. The others are what it comes from; their own place stays.
        """
        if not keys:
            return
        for key in keys[1:]:
            self._places.setdefault(key, place)
        self._places[keys[0]] = place
        self._places.move_to_end(keys[0])
        while len(self._places) > self._capacity:
            self._places.popitem(last=False)
