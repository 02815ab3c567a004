"""What Usage counts. Labels come from settings and catalogues, never from users."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.metrics import Meter

from services.usage.model import UsageRecord


class UsageMetrics:
    """Counts checks, leases and tokens."""

    def __init__(self, *, meter: Meter) -> None:
        self._checks = meter.create_counter(
            "chatmesh.usage.rate_checks",
            description="Requests checked, by tier and outcome: ok, over_limit, failed_open, failed_closed.",
        )
        self._leases = meter.create_counter(
            "chatmesh.usage.leases",
            description="Leases asked for, by tier and outcome: granted, exceeded, failed_open, failed_closed.",
        )
        self._tokens = meter.create_counter(
            "chatmesh.usage.tokens", unit="{token}", description="Tokens settled, by model, tier and type."
        )

    def checked(self, tier: str, outcome: str) -> None:
        """A request was checked."""
        self._checks.add(1, {"tier": tier, "outcome": outcome})

    def leased(self, tier: str, outcome: str) -> None:
        """A lease was asked for."""
        self._leases.add(1, {"tier": tier, "outcome": outcome})

    def settled(self, records: Iterable[UsageRecord]) -> None:
        """Generations were recorded for the first time."""
        for record in records:
            labels = {"model": record.model, "tier": record.tier}
            self._tokens.add(record.prompt_tokens, {**labels, "type": "prompt"})
            self._tokens.add(record.completion_tokens, {**labels, "type": "completion"})
