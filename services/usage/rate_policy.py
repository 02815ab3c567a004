"""What the edge's descriptors mean: whose requests are counted, and against which limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.usage.model import RateLimit, RateQuery, Surface
from services.usage.tiers import Tiers

ANONYMOUS = "anonymous"


class RatePolicy:
    """Reads descriptors by the tiers file.

    Known are `user, tier[, surface]` and `remote_address[, surface]`. The surface is not part of the counter: who uses
    both APIs has one limit.
    """

    def __init__(self, *, tiers: Tiers) -> None:
        self._tiers = tiers
        self._limits: dict[str, RateLimit] = {name: entry.rate(name) for name, entry in tiers.tiers.items()}
        self._anonymous = tiers.anonymous.rate(ANONYMOUS)

    def query(self, descriptor: Mapping[str, str], *, hits: int) -> RateQuery | None:
        """What is to be counted; None for a descriptor that is not known, which limits nothing."""
        if user := descriptor.get("user"):
            limit = self._limits[self._tiers.resolve(descriptor.get("tier", ""))]
            # A counter per tier: who changes it does not wait for what the old one allowed.
            return RateQuery(f"user:{limit.name}:{user}", limit, hits)
        if address := descriptor.get("remote_address"):
            return RateQuery(f"address:{address}", self._anonymous, hits)
        return None


def surface_of(descriptors: Sequence[Mapping[str, str]]) -> Surface:
    """The API that the request came by."""
    is_openai = any(descriptor.get("surface") == Surface.OPENAI for descriptor in descriptors)
    return Surface.OPENAI if is_openai else Surface.NATIVE
