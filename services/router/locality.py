"""How far a replica is from a caller. Pure."""

from __future__ import annotations

ZONE_PENALTY = 1.25
"""What a wait counts for in another zone of the caller's region."""
REGION_PENALTY = 2.0
"""And what it counts for in another region."""

PENALTIES = (1.0, ZONE_PENALTY, REGION_PENALTY)
"""By distance."""


def distance(*, zone: str, region: str, to_zone: str, to_region: str) -> int:
    """0 in the same zone, 1 in the same region, 2 elsewhere. A caller that does not say is at home everywhere."""
    if not zone and not region:
        return 0
    same_region = region == to_region
    if zone:
        # Zones of two regions may have the same name.
        if zone == to_zone and (same_region or not region):
            return 0
        return 1 if region and same_region else 2
    return 0 if same_region else 2


def allowed(region: str, regions: frozenset[str] | None) -> bool:
    """Whether data that is bound to these regions may go there. A replica that says no region may be anywhere."""
    return regions is None or region in regions
