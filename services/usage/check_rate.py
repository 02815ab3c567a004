"""The check of one request against the limits of its user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.runtime.errors import DomainError, Reason
from services.usage.counters import CountersUnavailableError
from services.usage.metrics import UsageMetrics
from services.usage.model import RateStanding, Surface
from services.usage.rate_counters import RateCounters
from services.usage.rate_policy import RatePolicy, surface_of

WINDOW_S = 60


@dataclass(frozen=True, slots=True)
class RateDecision:
    """The answer to a request: where each descriptor stands, None for those that limit nothing; why it may not pass."""

    standings: Sequence[RateStanding | None]
    surface: Surface
    refusal: DomainError | None = None


class CheckRate:
    """Decides by the tiers file and the counters."""

    def __init__(self, *, policy: RatePolicy, counters: RateCounters, metrics: UsageMetrics, fail_open: bool) -> None:
        self._policy = policy
        self._counters = counters
        self._metrics = metrics
        self._fail_open = fail_open

    async def check(self, descriptors: Sequence[Mapping[str, str]], *, hits: int) -> RateDecision:
        """Count a request, or say why it may not pass."""
        surface = surface_of(descriptors)
        queries = [self._policy.query(descriptor, hits=hits) for descriptor in descriptors]
        counted = [query for query in queries if query is not None]
        if not counted:
            return RateDecision([None] * len(queries), surface)
        tier = counted[0].limit.name
        try:
            standings = await self._counters.take(counted)
        except CountersUnavailableError:
            return self._without_counters(len(queries), surface, tier)
        self._metrics.checked(tier, "ok" if all(standing.allowed for standing in standings) else "over_limit")
        in_order = iter(standings)
        return RateDecision(
            [None if query is None else next(in_order) for query in queries], surface, _refusal(standings)
        )

    def _without_counters(self, descriptors: int, surface: Surface, tier: str) -> RateDecision:
        self._metrics.checked(tier, "failed_open" if self._fail_open else "failed_closed")
        refusal = DomainError(
            Reason.DEPENDENCY_UNAVAILABLE,
            "The request limits cannot be checked now; try again shortly.",
            metadata={"service": "redis"},
            retry_after_s=1.0,
        )
        return RateDecision([None] * descriptors, surface, None if self._fail_open else refusal)


def _refusal(standings: Sequence[RateStanding]) -> DomainError | None:
    over = [standing for standing in standings if not standing.allowed]
    if not over:
        return None
    longest = max(over, key=lambda standing: standing.retry_s)
    limit = longest.limit.requests_per_minute
    return DomainError(
        Reason.RATE_LIMITED,
        f"Too many requests: the limit is {limit} per minute. Try again in {longest.retry_s:.1f} s.",
        metadata={"limit": str(limit), "window_seconds": str(WINDOW_S)},
        retry_after_s=longest.retry_s,
    )
