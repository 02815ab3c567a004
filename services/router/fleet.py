"""The fleet's live state: which replica has which model, how busy it is, and what was just sent to it."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TypeVar

from services.router.affinity import Affinity
from services.router.breaker import Breaker
from services.router.draw import COMPARED_WHOLE, Draw, Drawn, Standing
from services.router.group import Group, ring_point, sample
from services.router.locality import allowed
from services.router.model import (
    ModelLoad,
    ModelView,
    Option,
    Outlook,
    Placement,
    PoolPreference,
    ReplicaReport,
    ReplicaView,
    RouteQuery,
)
from services.router.placement import expected_wait, place, settled_latency
from services.router.seat import Seat, Site
from services.runtime.errors import DomainError, Reason

K = TypeVar("K")
V = TypeVar("V")

_UNKNOWN_LATENCY_MS = 1.0
_BROKEN_WAIT_MS = 10_000.0
"""What is added to the wait of a model of which every replica is silent or broken."""
_NO_QUERY = RouteQuery(generation_id="", model="")
_REMEMBERED_GENERATIONS = 8192


class Fleet:
    """What is known of all replicas now.

    Replicas are kept by the address they report on. What takes work stands in groups, one for each model, pool, region
    and zone, so that a choice costs the same among a hundred replicas and among thousands.

    All times are monotonic seconds, given by the caller, and never go back.
    """

    def __init__(
        self,
        *,
        lease_ttl_s: float,
        settle_s: float,
        suspect_s: float = 1.25,
        remembered: int = 100_000,
        rng: random.Random | None = None,
    ) -> None:
        """A lease counts as load until the replica's report counts the generation. One of which nothing is heard
        counts until a report that comes `settle_s` after it, and never longer than `lease_ttl_s`.

        A replica that was silent for `suspect_s` is used only when there is no other. The places of the last turns of
        `remembered` conversations are known.
        """
        self._lease_ttl_s = lease_ttl_s
        self._settle_s = settle_s
        self._suspect_s = suspect_s
        self._rng = rng or random.Random()
        self._sites: dict[str, Site] = {}
        self._by_id: dict[str, Site] = {}
        self._groups: dict[str, list[Group]] = {}
        self._capabilities: dict[str, frozenset[str]] = {}
        self._affinity: Affinity[Seat] = Affinity(capacity=remembered, gone=_is_gone)
        self._generations: OrderedDict[str, Seat] = OrderedDict()
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Failures of which a caller has told, by generation and replica, until it is sent there again."""

    @property
    def reporting(self) -> int:
        """Replicas that report now, draining ones included."""
        return len(self._sites)

    async def check(self) -> None:
        """Health: passes while at least one replica reports.

        Raises:
            DomainError: NO_REPLICA.
        """
        if not self._sites:
            raise DomainError(Reason.NO_REPLICA, "No inference replica reports to the router.")

    def report(self, address: str, report: ReplicaReport, *, now: float) -> None:
        """Take what a replica says about itself. Another replica that reported on the same address is gone."""
        site = self._sites.get(address)
        if site is None or (site.replica_id, site.pool, site.zone, site.region) != _identity(report):
            self.lose(address)
            site = self._sites[address] = Site(
                address=address, replica_id=report.replica_id, pool=report.pool, zone=report.zone, region=report.region
            )
            self._by_id[report.replica_id] = site
        site.heard = now
        site.draining = report.draining
        for name in site.seats.keys() - report.models.keys():
            self._withdraw(site.seats.pop(name))
        for name, load in report.models.items():
            seat = site.seats.get(name)
            if seat is None:
                breaker = Breaker(jitter=self._rng.random)
                seat = site.seats[name] = Seat(site=site, model=name, load=load, breaker=breaker, now=now)
            self._update(seat, load, now=now)

    def lose(self, address: str) -> None:
        """The replica on this address no longer reports; nothing is sent there until it does."""
        site = self._sites.pop(address, None)
        if site is None:
            return
        if self._by_id.get(site.replica_id) is site:
            del self._by_id[site.replica_id]
        for seat in site.seats.values():
            self._withdraw(seat)

    def failed(self, replica_id: str, *, generation_id: str, model: str, now: float) -> None:
        """A caller says that a replica failed its generation. `model` is what it asked for: a model or an alias.

        A call that could not be served is made again, and tells the same once more; that counts once.
        """
        failure = (generation_id, replica_id)
        if generation_id:
            if failure in self._told:
                return
            _remember(self._told, failure, None)
        seat = self._generations.pop(generation_id, None)
        if seat is not None and seat.site.replica_id == replica_id:
            blamed = [seat]
        else:
            # Another router has placed it. Of an alias nobody here knows which model of the replica it was.
            site = self._by_id.get(replica_id)
            seats = {} if site is None else site.seats
            blamed = [seats[model]] if model in seats else list(seats.values())
        for seat in blamed:
            seat.breaker.told(now)
            if seat.drop_lease(generation_id) and seat.group is not None:
                seat.group.leased -= 1

    def place(
        self,
        query: RouteQuery,
        *,
        model: str,
        pools: Sequence[PoolPreference] = (),
        bypass: bool = True,
        now: float,
    ) -> Placement | None:
        """Choose a replica for a generation of this model, and count it as that replica's load from now on.

        `pools` are those that may serve it, best first; none means any. When all that may take it have failed lately,
        the least bad of them does, unless `bypass` is false. None when there is none.
        """
        keys = query.affinity_keys or ((query.conversation_id,) if query.conversation_id else ())
        points = [ring_point(f"{model} {key}") for key in keys]
        last: tuple[list[Group], Drawn] | None = None
        known = self._last_seat(query.last_replica_id, model) or self._affinity.find(points)
        draw = self._draw(query, now)
        for groups in self._in_order(model, pools, query.allowed_regions):
            drawn = draw.of(
                groups,
                known=known if known is not None and known.group in groups else None,
                point=points[-1] if points else None,
            )
            if drawn is None:
                continue
            if last is None or drawn.standing < last[1].standing:
                last = groups, drawn
            if drawn.standing <= Standing.PROBE:
                break
        if last is None or (last[1].standing is Standing.BROKEN and not bypass):
            return None
        seat, placement = self._choose(last[1], draw=draw, now=now)
        self._take(seat, query.generation_id, probe=last[1].standing is Standing.PROBE, now=now)
        self._affinity.record(points, seat)
        return placement

    def ready(
        self, model: str, *, pools: Sequence[PoolPreference] = (), allowed_regions: frozenset[str] | None = None
    ) -> int:
        """Replicas that would take a generation of the model."""
        names = {pool.name for pool in pools}
        return sum(len(group.ready) for group in self._eligible(model, names, allowed_regions))

    def capabilities(self, model: str) -> frozenset[str]:
        """What at least one replica that takes work says that the model can do."""
        known = self._capabilities.get(model)
        if known is None:
            seats = (seat for group in self._groups.get(model, ()) for seat in group.ready)
            known = self._capabilities[model] = frozenset().union(*(seat.load.capabilities for seat in seats))
        return known

    def outlook(
        self,
        model: str,
        *,
        pools: Sequence[PoolPreference] = (),
        allowed_regions: frozenset[str] | None = None,
        now: float,
    ) -> Outlook:
        """How the model stands in the pools that may serve it: how busy it is, and how long one would wait."""
        groups = self._eligible(model, {pool.name for pool in pools}, allowed_regions)
        seats = sample(groups, COMPARED_WHOLE, self._rng)
        fit = [seat for seat in seats if seat.breaker.closed and seat.site.heard >= now - self._suspect_s]
        options = self._options(
            fit or seats, draw=Draw(_NO_QUERY, now=now, suspect_s=self._suspect_s, rng=self._rng), now=now
        )
        return Outlook(
            ready=sum(len(group.ready) for group in groups),
            slots=sum(group.slots for group in groups),
            in_flight=sum(group.in_flight for group in groups),
            wait_ms=min(map(expected_wait, options), default=0.0) + (0.0 if fit else _BROKEN_WAIT_MS),
        )

    def view(self, now: float) -> list[ReplicaView]:
        """All replicas that report, by id."""
        return sorted((self._view(site, now=now) for site in self._sites.values()), key=lambda view: view.replica_id)

    def _view(self, site: Site, *, now: float) -> ReplicaView:
        draw = self._draw(_NO_QUERY, now)
        models = [
            ModelView(
                name=name,
                load=seat.load,
                leased=len(seat.leases),
                score=expected_wait(self._options([seat], draw=draw, now=now)[0]),
                breaker=seat.breaker.state(now),
            )
            for name, seat in sorted(site.seats.items())
        ]
        return ReplicaView(
            replica_id=site.replica_id,
            address=site.address,
            pool=site.pool,
            zone=site.zone,
            region=site.region,
            draining=site.draining,
            silent_ms=max(0.0, now - site.heard) * 1000,
            models=tuple(models),
        )

    def _draw(self, query: RouteQuery, now: float) -> Draw:
        return Draw(query, now=now, suspect_s=self._suspect_s, rng=self._rng)

    def _eligible(self, model: str, pools: set[str], regions: frozenset[str] | None) -> list[Group]:
        return [
            group
            for group in self._groups.get(model, ())
            if (not pools or group.pool in pools) and allowed(group.region, regions)
        ]

    def _in_order(
        self, model: str, pools: Sequence[PoolPreference], regions: frozenset[str] | None
    ) -> Iterator[list[Group]]:
        """The groups of the pool to use, then those of the others, best first."""
        if not pools:
            yield self._eligible(model, set(), regions)
            return
        stocked = [(pool, self._eligible(model, {pool.name}, regions)) for pool in pools]
        stocked = [(pool, groups) for pool, groups in stocked if groups]
        at = 0
        while at + 1 < len(stocked):
            load = _load(stocked[at][1])
            if load < stocked[at][0].spill_over_at or _load(stocked[at + 1][1]) >= load:
                break
            at += 1
        if stocked:
            yield stocked[at][1]
        for index, (_, groups) in enumerate(stocked):
            if index != at:
                yield groups

    def _choose(self, drawn: Drawn, *, draw: Draw, now: float) -> tuple[Seat, Placement]:
        seats = drawn.seats
        known, homes = drawn.known, drawn.homes
        if drawn.standing is Standing.BROKEN:
            least = min(seat.breaker.failure_rate(now) for seat in seats)
            seats = [seat for seat in seats if seat.breaker.failure_rate(now) <= least]
            known, homes = False, 0
        options = self._options(seats, draw=draw, now=now)
        placement = place(options, known=known, homes=homes, rule="least_wait" if drawn.whole else "two_choices")
        match drawn.standing:
            case Standing.PROBE:
                placement = Placement(chosen=placement.chosen, ranked=placement.ranked, rule="breaker_probe")
            case Standing.BROKEN:
                placement = Placement(chosen=placement.chosen, ranked=placement.ranked, rule="breaker_bypass")
        at = next(index for index, option in enumerate(options) if option is placement.chosen.option)
        return seats[at], placement

    def _options(self, seats: Sequence[Seat], *, draw: Draw, now: float) -> list[Option]:
        floor_ms = min((seat.latency_ms for seat in seats if seat.latency_ms > 0.0), default=_UNKNOWN_LATENCY_MS)
        # A replica that has not ended one yet is no better in that than the others.
        hold_ms = max((seat.hold_ms for seat in seats), default=0.0)
        options = []
        for seat in seats:
            if seat.leases:
                self._expire(seat, until=now - self._lease_ttl_s)
            site, load = seat.site, seat.load
            options.append(
                Option(
                    replica_id=site.replica_id,
                    address=site.address,
                    slots=max(1, load.slots),
                    in_flight=seat.in_flight,
                    latency_ms=settled_latency(seat.latency_ms, age_s=now - seat.latency_changed, floor_ms=floor_ms),
                    hold_ms=seat.hold_ms or hold_ms,
                    distance=draw.distance(site.zone, site.region),
                    pool=site.pool,
                    zone=site.zone,
                    region=site.region,
                )
            )
        return options

    def _last_seat(self, replica_id: str, model: str) -> Seat | None:
        site = self._by_id.get(replica_id)
        return None if site is None else site.seats.get(model)

    def _take(self, seat: Seat, generation_id: str, *, probe: bool, now: float) -> None:
        seat.lease(generation_id, now=now)
        if seat.group is not None:
            seat.group.leased += 1
        if probe:
            seat.breaker.begin_probe(now)
        _remember(self._generations, generation_id, seat)
        self._told.pop((generation_id, seat.site.replica_id), None)

    def _expire(self, seat: Seat, *, until: float) -> None:
        before = len(seat.leases)
        seat.expire_leases(until=until)
        if seat.group is not None:
            seat.group.leased += len(seat.leases) - before

    def _update(self, seat: Seat, load: ModelLoad, *, now: float) -> None:
        group = seat.group
        if load.capabilities != seat.load.capabilities:
            self._capabilities.pop(seat.model, None)
        if group is not None:
            group.count(seat, -1)
        seat.report(load, now=now)
        seat.expire_leases(until=now - self._settle_s)
        if group is not None:
            group.count(seat, 1)
        if seat.site.draining:
            self._withdraw(seat)
        elif group is None:
            self._offer(seat)

    def _offer(self, seat: Seat) -> None:
        self._capabilities.pop(seat.model, None)
        site = seat.site
        groups = self._groups.setdefault(seat.model, [])
        for group in groups:
            if (group.pool, group.region, group.zone) == (site.pool, site.region, site.zone):
                break
        else:
            group = Group(pool=site.pool, region=site.region, zone=site.zone)
            groups.append(group)
        group.add(seat)

    def _withdraw(self, seat: Seat) -> None:
        group = seat.group
        if group is None:
            return
        self._capabilities.pop(seat.model, None)
        group.remove(seat)
        if not group.ready:
            groups = self._groups[seat.model]
            groups.remove(group)
            if not groups:
                del self._groups[seat.model]


def _remember(known: OrderedDict[K, V], key: K, value: V) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > _REMEMBERED_GENERATIONS:
        known.popitem(last=False)


def _identity(report: ReplicaReport) -> tuple[str, str, str, str]:
    return report.replica_id, report.pool, report.zone, report.region


def _is_gone(seat: Seat) -> bool:
    return seat.group is None


def _load(groups: Sequence[Group]) -> float:
    return sum(group.in_flight for group in groups) / max(1, sum(group.slots for group in groups))
