"""The replicas of one model in one place: a list to draw from, and a ring on which conversations have their homes."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from hashlib import blake2b

from services.router.seat import Seat

_RING = 1 << 64
_POINTS = 16
"""Of each replica on the ring: with more of them the homes are shared out more evenly, and joining costs more."""


def ring_point(key: str) -> int:
    """Where a key stands on the ring: 64 bits, the same in every process."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")


class Group:
    """Seats that take work, of one model in one pool, region and zone. All of it costs the same for any number."""

    __slots__ = ("_points", "_ring", "in_flight_reported", "leased", "pool", "ready", "region", "slots", "zone")

    def __init__(self, *, pool: str, region: str, zone: str) -> None:
        self.pool = pool
        self.region = region
        self.zone = zone
        self.ready: list[Seat] = []
        self._points: list[int] = []
        self._ring: list[Seat] = []
        self.slots = 0
        self.in_flight_reported = 0
        self.leased = 0

    @property
    def in_flight(self) -> int:
        """What its seats run or have queued, what was just sent to them included."""
        return self.in_flight_reported + self.leased

    def add(self, seat: Seat) -> None:
        """The seat takes work from now on."""
        seat.group = self
        seat.index = len(self.ready)
        self.ready.append(seat)
        self.count(seat, 1)
        for point in _points_of(seat):
            at = bisect_left(self._points, point)
            self._points.insert(at, point)
            self._ring.insert(at, seat)

    def remove(self, seat: Seat) -> None:
        """The seat takes no more work."""
        seat.group = None
        last = self.ready.pop()
        if last is not seat:
            self.ready[seat.index] = last
            last.index = seat.index
        self.count(seat, -1)
        for point in _points_of(seat):
            at = bisect_left(self._points, point)
            while self._ring[at] is not seat:
                at += 1
            del self._points[at], self._ring[at]

    def count(self, seat: Seat, sign: int) -> None:
        """Add what the seat has (1) or take it away (-1); around every change of its figures."""
        self.slots += sign * max(1, seat.load.slots)
        self.in_flight_reported += sign * (seat.load.running + seat.load.queued)
        self.leased += sign * len(seat.leases)

    def walk(self, point: int) -> Iterator[tuple[int, Seat]]:
        """The seats from a point on, once around, each with how far it is; a seat comes as often as it has points."""
        start = bisect_left(self._points, point)
        for index in range(start, start + len(self._ring)):
            at = index % len(self._ring)
            yield (self._points[at] - point) % _RING, self._ring[at]


def homes(groups: Sequence[Group], point: int, number: int) -> list[Seat]:
    """The first seats from a point on, on the ring of all these groups together."""
    if len(groups) == 1:
        return _first([seat for _, seat in zip(range(number * 3), _seats(groups[0], point), strict=False)], number)
    met: list[tuple[int, int, Seat]] = []
    for order, group in enumerate(groups):
        steps = zip(range(number * 3), group.walk(point), strict=False)
        met.extend((far, order, seat) for _, (far, seat) in steps)
    met.sort(key=lambda step: step[:2])
    return _first([seat for _, _, seat in met], number)


def sample(groups: Sequence[Group], number: int, rng: random.Random) -> list[Seat]:
    """So many seats by chance, at most all of them; the same one may come twice."""
    total = sum(len(group.ready) for group in groups)
    if total <= number:
        return [seat for group in groups for seat in group.ready]
    drawn = []
    if len(groups) == 1:
        return [groups[0].ready[int(rng.random() * total)] for _ in range(number)]
    for _ in range(number):
        index = int(rng.random() * total)
        for group in groups:
            if index < len(group.ready):
                drawn.append(group.ready[index])
                break
            index -= len(group.ready)
    return drawn


def _seats(group: Group, point: int) -> Iterator[Seat]:
    for _, seat in group.walk(point):
        yield seat


def _first(seats: Sequence[Seat], number: int) -> list[Seat]:
    return list(dict.fromkeys(seats))[:number]


def _points_of(seat: Seat) -> Iterator[int]:
    for number in range(_POINTS):
        yield ring_point(f"{seat.site.replica_id}#{number}")
