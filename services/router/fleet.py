"""The fleet's live state: which replica has which model, how busy it is, and what was just sent to it."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterator
from hashlib import blake2b

from services.router.model import ModelLoad, Option, ReplicaReport
from services.router.placement import settled_latency
from services.runtime.errors import DomainError, Reason

WINDOW = 32
"""Replicas that are compared for one request. More would cost time and win next to nothing; and routers that all
compare the whole fleet by the same state of a moment ago would all choose the same replica."""

_UNKNOWN_LATENCY_MS = 1.0


def ring_point(key: str) -> int:
    """Where a key stands on the ring: 64 bits, the same in every process."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")


class _Seat:
    """One model on one replica. `leases` are the times of the leases that its report does not count yet."""

    __slots__ = ("address", "draining", "latency_changed", "leases", "load", "point", "replica_id")

    def __init__(self, *, address: str, replica_id: str, load: ModelLoad, now: float) -> None:
        self.address = address
        self.replica_id = replica_id
        self.point = ring_point(replica_id)
        self.draining = True
        self.load = load
        self.latency_changed = now
        self.leases: deque[float] = deque()

    def report(self, load: ModelLoad, *, now: float) -> None:
        if load.first_token_ms != self.load.first_token_ms:
            self.latency_changed = now
        self.load = load

    def forget_leases(self, *, until: float) -> None:
        while self.leases and self.leases[0] <= until:
            self.leases.popleft()


class Fleet:
    """What is known of all replicas now.

    Replicas are kept by the address they report on. A model's replicas stand on a ring, and a request looks at those
    that follow its own point on it. So the same conversation meets the same replicas in the same order, and a choice
    costs the same among a hundred replicas and among thousands.

    All times are monotonic seconds, given by the caller, and never go back.
    """

    def __init__(self, *, lease_ttl_s: float, settle_s: float) -> None:
        """A lease counts as load for `lease_ttl_s`, or until a report that comes at least `settle_s` after it: a
        generation takes that long from its lease to the replica, so an earlier report cannot know of it."""
        self._lease_ttl_s = lease_ttl_s
        self._settle_s = settle_s
        self._replicas: dict[str, dict[str, _Seat]] = {}
        self._rings: dict[str, list[_Seat]] = {}

    @property
    def reporting(self) -> int:
        """Replicas that report now, draining ones included."""
        return len(self._replicas)

    async def check(self) -> None:
        """Health: passes while at least one replica reports.

        Raises:
            DomainError: NO_REPLICA.
        """
        if not self._replicas:
            raise DomainError(Reason.NO_REPLICA, "No inference replica reports to the router.")

    def report(self, address: str, report: ReplicaReport, *, now: float) -> None:
        """Take what a replica says about itself. Another replica that reported on the same address is gone."""
        seats = self._replicas.setdefault(address, {})
        for name, seat in list(seats.items()):
            if seat.replica_id != report.replica_id or name not in report.models:
                del seats[name]
                self._set_draining(name, seat, True)
        for name, load in report.models.items():
            known = seats.get(name)
            if known is None:
                known = seats[name] = _Seat(address=address, replica_id=report.replica_id, load=load, now=now)
            self._set_draining(name, known, report.draining)
            known.report(load, now=now)
            known.forget_leases(until=now - self._settle_s)

    def lose(self, address: str) -> None:
        """The replica on this address no longer reports; nothing is sent there until it does."""
        for name, seat in self._replicas.pop(address, {}).items():
            self._set_draining(name, seat, True)

    def ready(self, model: str) -> int:
        """Replicas that would take a generation of the model."""
        return len(self._rings.get(model, ()))

    def options(self, model: str, *, key: str, excluded: Collection[str], now: float) -> list[Option]:
        """Up to `WINDOW` replicas that could take a generation now, in the order in which `key` meets them."""
        seats = [seat for seat, _ in zip(self._eligible(model, key, excluded), range(WINDOW), strict=False)]
        figures = [seat.load.first_token_ms for seat in seats if seat.load.first_token_ms > 0.0]
        floor_ms = min(figures, default=_UNKNOWN_LATENCY_MS)
        return [self._option(seat, floor_ms=floor_ms, now=now) for seat in seats]

    def count_lease(self, model: str, option: Option, *, now: float) -> None:
        """A generation was just sent to the option's replica."""
        seat = self._replicas.get(option.address, {}).get(model)
        if seat is not None:
            seat.leases.append(now)

    def _option(self, seat: _Seat, *, floor_ms: float, now: float) -> Option:
        seat.forget_leases(until=now - self._lease_ttl_s)
        load = seat.load
        return Option(
            replica_id=seat.replica_id,
            address=seat.address,
            slots=max(1, load.slots),
            in_flight=load.running + load.queued + len(seat.leases),
            latency_ms=settled_latency(load.first_token_ms, age_s=now - seat.latency_changed, floor_ms=floor_ms),
        )

    def _eligible(self, model: str, key: str, excluded: Collection[str]) -> Iterator[_Seat]:
        ring = self._rings.get(model, [])
        start = bisect_left(ring, ring_point(key), key=_point)
        for index in range(len(ring)):
            seat = ring[(start + index) % len(ring)]
            if seat.replica_id not in excluded:
                yield seat

    def _set_draining(self, model: str, seat: _Seat, draining: bool) -> None:
        """A seat stands on the ring exactly while it is not draining."""
        if seat.draining is draining:
            return
        seat.draining = draining
        ring = self._rings.setdefault(model, [])
        if draining:
            ring.remove(seat)
        else:
            ring.insert(bisect_left(ring, seat.point, key=_point), seat)
        if not ring:
            del self._rings[model]


def _point(seat: _Seat) -> int:
    return seat.point
