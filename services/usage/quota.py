"""Token quotas: leases before a generation, settlement after it, and the report about both."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.runtime.clock import Clock, new_id
from services.runtime.errors import DomainError, Reason
from services.runtime.identity import Identity
from services.usage.counters import CountersUnavailableError
from services.usage.metrics import UsageMetrics
from services.usage.model import Lease, UsageRecord, UsageReport
from services.usage.quota_counters import QuotaCounters, QuotaSpent, end_of_day
from services.usage.store import UsageStore
from services.usage.tiers import Tiers

DEFAULT_DAYS = 30


class Quota:
    """What a user may use, and has used."""

    def __init__(
        self,
        *,
        tiers: Tiers,
        counters: QuotaCounters,
        store: UsageStore,
        clock: Clock,
        metrics: UsageMetrics,
        lease_for: timedelta,
        fail_open: bool,
    ) -> None:
        self._tiers = tiers
        self._counters = counters
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._lease_for = lease_for
        self._fail_open = fail_open

    async def acquire(self, identity: Identity, generation_id: str, *, tokens: int) -> Lease:
        """Set tokens aside for a generation: what was asked for, or what is left when that is less.

        Raises:
            DomainError: QUOTA_EXCEEDED when nothing is left; DEPENDENCY_UNAVAILABLE when the counters are, and the
                setting is to refuse then.
        """
        now = self._clock.now()
        tier = self._tiers.resolve(identity.tier)
        limit = self._tiers.tiers[tier].tokens_per_day
        try:
            lease = await self._counters.acquire(
                identity.user_id, generation_id, tokens=tokens, limit=limit, now=now, lease_for=self._lease_for
            )
        except (CountersUnavailableError, DomainError) as error:
            if not self._fail_open:
                self._metrics.leased(tier, "failed_closed")
                raise _unavailable() from error
            self._metrics.leased(tier, "failed_open")
            return Lease(tokens, max(0, limit - tokens), now + self._lease_for)
        if isinstance(lease, QuotaSpent):
            self._metrics.leased(tier, "exceeded")
            raise DomainError(
                Reason.QUOTA_EXCEEDED,
                f"The {limit:,} tokens that the tier {tier} has per day are used up or set aside for running answers; "
                "they are renewed at midnight UTC.",
                metadata={"quota": "tokens_per_day", "limit": str(limit), "used": str(lease.standing.used)},
                retry_after_s=(end_of_day(now) - now).total_seconds(),
            )
        self._metrics.leased(tier, "granted")
        return lease

    async def settle(self, records: Sequence[UsageRecord]) -> int:
        """Store what generations used and count it, each once. Returns how many were new.

        Raises:
            DomainError: DEPENDENCY_UNAVAILABLE: call again with the same records.
        """
        unique = list({record.generation_id: record for record in records}.values())
        # Without a model nothing was generated: there is a reservation to give back, and no use to store.
        new = await self._store.record([record for record in unique if record.model])
        self._metrics.settled(record for record in unique if record.generation_id in new)
        try:
            # Those that were stored before, too: the call that stored them may have ended before it counted them.
            await self._counters.settle(unique, now=self._clock.now())
        except CountersUnavailableError as error:
            raise _unavailable() from error
        return len(new)

    async def report(self, identity: Identity, *, days: int) -> UsageReport:
        """What a user used in the last `days` days, today included; 0 means 30.

        Raises:
            DomainError: DEPENDENCY_UNAVAILABLE when the database does not answer.
        """
        now = self._clock.now()
        today = now.date()
        daily = await self._store.daily(identity.user_id, since=today - timedelta(days=(days or DEFAULT_DAYS) - 1))
        stored_today = sum(row.prompt_tokens + row.completion_tokens for row in daily if row.day == today)
        try:
            standing = await self._counters.standing(identity.user_id, now=now)
        except CountersUnavailableError:
            standing = None
        tier = self._tiers.resolve(identity.tier)
        return UsageReport(
            daily=tuple(daily),
            tier=tier,
            tokens_per_day=self._tiers.tiers[tier].tokens_per_day,
            tokens_today=stored_today if standing is None else standing.used + standing.reserved,
        )

    async def forget(self, identity: Identity) -> int:
        """Take a user's name off the records: they get a random one. Returns how many there were.

        Use that is settled later is recorded under the user's name again. The counters stay, or else whoever deletes
        what they have would begin the day anew; they end by themselves, with the day.

        Raises:
            DomainError: DEPENDENCY_UNAVAILABLE: call again, the rest is done then.
        """
        return await self._store.rename_user(identity.user_id, to=f"forgotten-{new_id()}")


def _unavailable() -> DomainError:
    return DomainError(
        Reason.DEPENDENCY_UNAVAILABLE,
        "The quota cannot be checked now; try again shortly.",
        metadata={"service": "redis"},
    )
