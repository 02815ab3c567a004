"""One model on one replica, as a router sees it: what it reports, and what was sent to it since."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from services.router.breaker import Breaker
from services.router.model import ModelLoad

if TYPE_CHECKING:
    from services.router.group import Group

_HOLD_HALF_LIFE_S = 30.0
_SHARE_WINDOW = 32.0
_LEAST_SERVICE_SHARE = 0.02


class Site:
    """A replica: where it is, and when it was last heard."""

    __slots__ = ("address", "draining", "heard", "pool", "region", "replica_id", "seats", "zone")

    def __init__(self, *, address: str, replica_id: str, pool: str, zone: str, region: str) -> None:
        self.address = address
        self.replica_id = replica_id
        self.pool = pool
        self.zone = zone
        self.region = region
        self.heard = 0.0
        self.draining = False
        self.seats: dict[str, Seat] = {}


class Seat:
    """One model on one site. It takes work while it stands in a group."""

    __slots__ = (
        "_busy_s",
        "_credit",
        "_ended",
        "_heard",
        "_leased",
        "_seen",
        "breaker",
        "group",
        "hold_ms",
        "index",
        "latency_changed",
        "latency_ms",
        "leases",
        "load",
        "model",
        "site",
    )

    def __init__(self, *, site: Site, model: str, load: ModelLoad, breaker: Breaker, now: float) -> None:
        self.site = site
        self.model = model
        self.load = load
        self.breaker = breaker
        self.group: Group | None = None
        self.index = 0
        self.latency_ms = service_ms(load)
        """To the first token without the wait for a slot; 0 before the first."""
        self.latency_changed = now
        self.hold_ms = 0.0
        """How long a generation holds a slot; 0 before it is known."""
        self.leases: deque[tuple[float, str]] = deque()
        """Generations that were sent there and that its report does not count yet: when, and their ids."""
        self._heard = now
        self._busy_s = 0.0
        self._ended = 0.0
        self._credit = 0.0
        self._leased = 0.0
        self._seen = 0.0

    @property
    def in_flight(self) -> int:
        """What it runs or has queued, what was just sent to it included."""
        return self.load.running + self.load.queued + len(self.leases)

    def lease(self, generation_id: str, *, now: float) -> None:
        """A generation is sent there."""
        self.leases.append((now, generation_id))
        self._leased += 1.0

    def drop_lease(self, generation_id: str) -> bool:
        """The generation will not come, or has ended. Whether it counted until now."""
        for lease in self.leases:
            if lease[1] == generation_id:
                self.leases.remove(lease)
                return True
        return False

    def expire_leases(self, *, until: float) -> None:
        """Leases of this time and before count no more."""
        while self.leases and self.leases[0][0] <= until:
            self.leases.popleft()

    def report(self, load: ModelLoad, *, now: float) -> None:
        """Take what its replica says."""
        before, self.load = self.load, load
        latency_ms = service_ms(load)
        if latency_ms != self.latency_ms:
            self.latency_ms = latency_ms
            self.latency_changed = now
        self._settle(load.arrived - before.arrived)
        completed, failed = load.completed - before.completed, load.failed - before.failed
        if completed >= 0 and failed >= 0:
            self.breaker.reported(completed=completed, failed=failed, now=now)
            self._learn_hold((before.running + load.running) / 2, ended=completed + failed, now=now)
        self._heard = now

    def _settle(self, arrived: int) -> None:
        """As many leases as have come to the replica are in its own figures now.

        Those that come from other routers settle none of ours: of what arrives, our leases are taken to be the share
        that they were lately.
        """
        if arrived <= 0:
            return
        self._seen += arrived
        share = min(1.0, self._leased / self._seen)
        if self._seen > _SHARE_WINDOW:
            self._seen, self._leased = _SHARE_WINDOW, self._leased * _SHARE_WINDOW / self._seen
        self._credit += arrived * share
        settled = min(int(self._credit + 1e-9), len(self.leases))
        for _ in range(settled):
            self.leases.popleft()
        self._credit = self._credit - settled if self.leases else 0.0

    def _learn_hold(self, running: float, *, ended: int, now: float) -> None:
        # Little's law: generations that run, over generations that end in a second.
        kept = 0.5 ** ((now - self._heard) / _HOLD_HALF_LIFE_S)
        self._busy_s = self._busy_s * kept + running * (now - self._heard)
        self._ended = self._ended * kept + ended
        if self._ended >= 1.0:
            self.hold_ms = 1000.0 * self._busy_s / self._ended


def service_ms(load: ModelLoad) -> float:
    """The time to the first token less the wait for a slot; 0 when there is no figure."""
    # Both are averages over somewhat different generations, so their difference may come out at nothing.
    return max(load.first_token_ms - load.queue_wait_ms, load.first_token_ms * _LEAST_SERVICE_SHARE)
