"""Which replicas are looked at for one generation, and what each of them is good for. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from services.router.group import Group, homes, sample
from services.router.locality import distance
from services.router.model import RouteQuery
from services.router.seat import Seat

COMPARED_WHOLE = 16
"""Up to so many replicas are all compared. Of more, some are drawn by chance: it costs the same for any number, and
routers that all see the same state of a moment ago do not all choose the same replica."""
CHOICES = 6
"""Drawn by chance where the caller is. Fewer miss the fast ones; with more, routers that hear the same reports run to
the same replicas again."""
FAR_CHOICES = 2
"""Drawn by chance in each of the places farther away: its region, everywhere else."""
HOMES = 2
"""Homes of a conversation that are looked at."""


class Standing(IntEnum):
    """What a seat is good for; less is better."""

    FIT = 0
    PROBE = 1
    """Nobody knows whether it works again: one generation may find out."""
    SILENT = 2
    """Its last report is too old."""
    BROKEN = 3
    """Its breaker is open, or a probe is on its way."""


@dataclass(slots=True)
class Drawn:
    """Seats with one standing, those preferred by affinity first; see `place`."""

    standing: Standing
    seats: list[Seat]
    known: bool = False
    homes: int = 0
    whole: bool = True
    """Whether all there are were looked at."""


class Draw:
    """One look at the seats for one query."""

    def __init__(self, query: RouteQuery, *, now: float, suspect_s: float, rng: random.Random) -> None:
        self._query = query
        self._placed = bool(query.zone or query.region)
        self._now = now
        self._heard_since = now - suspect_s
        self._rng = rng
        # A request that has just failed is not the one to find out whether a replica works again.
        self._may_probe = not query.excluded_replica_ids and not query.failed_replica_id

    def of(self, groups: Sequence[Group], *, known: Seat | None, point: int | None) -> Drawn | None:
        """The seats to compare; None when there are none. `point` is where the conversation stands on the ring."""
        total = sum(len(group.ready) for group in groups)
        if not total:
            return None
        levels = self._levels(groups)
        preferred: list[Seat] = [known] if known is not None else []
        if point is not None:
            preferred += homes(levels[0], point, HOMES)
        if total <= COMPARED_WHOLE:
            return self._best(preferred, self._all(groups), known=known)
        drawn: list[Seat] = []
        for level in levels:
            drawn += sample(level, FAR_CHOICES if drawn else CHOICES, self._rng)
        found = self._best(preferred, drawn, known=known)
        if found is None or found.standing > Standing.PROBE:
            found = self._best(preferred, self._all(groups), known=known)
            if found is not None and len(found.seats) > COMPARED_WHOLE:
                del found.seats[COMPARED_WHOLE:]
        if found is not None:
            found.whole = False
        return found

    def distance(self, zone: str, region: str) -> int:
        """How far from the caller that is."""
        query = self._query
        if not self._placed:
            return 0
        return distance(zone=query.zone, region=query.region, to_zone=zone, to_region=region)

    def _levels(self, groups: Sequence[Group]) -> list[list[Group]]:
        """The groups by how far they are, the nearest first."""
        levels: dict[int, list[Group]] = {}
        for group in groups:
            levels.setdefault(self.distance(group.zone, group.region), []).append(group)
        return [levels[far] for far in sorted(levels)]

    def _all(self, groups: Sequence[Group]) -> Iterator[Seat]:
        # From a place by chance on, so that equals share what comes.
        seats = [seat for group in groups for seat in group.ready]
        start = int(self._rng.random() * len(seats))
        yield from seats[start:]
        yield from seats[:start]

    def _best(
        self, preferred: Sequence[Seat], others: Iterator[Seat] | list[Seat], *, known: Seat | None
    ) -> Drawn | None:
        """Those of the best standing there is."""
        by_standing: dict[Standing, list[Seat]] = {}
        standings: dict[Seat, Standing | None] = {}
        for seat in (*preferred, *others):
            if seat in standings:
                continue
            standing = standings[seat] = self._standing(seat)
            if standing is not None:
                by_standing.setdefault(standing, []).append(seat)
        if not by_standing:
            return None
        # A probe comes before all others: a replica that nobody tries stays out for ever.
        best = Standing.PROBE if Standing.PROBE in by_standing else min(by_standing)
        return Drawn(
            standing=best,
            seats=by_standing[best],
            known=known is not None and standings[known] is best,
            homes=sum(seat is not known and standings[seat] is best for seat in preferred),
        )

    def _standing(self, seat: Seat) -> Standing | None:
        query = self._query
        if seat.site.replica_id in query.excluded_replica_ids:
            return None
        if query.capabilities and seat.load.capabilities and not query.capabilities <= seat.load.capabilities:
            return None
        if not seat.breaker.closed:
            probe = self._may_probe and seat.site.heard >= self._heard_since and seat.breaker.wants_probe(self._now)
            return Standing.PROBE if probe else Standing.BROKEN
        return Standing.FIT if seat.site.heard >= self._heard_since else Standing.SILENT
