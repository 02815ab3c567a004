"""Which requests are copied to a second model. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from services.router.experiments import hash_point
from services.runtime.routing_policy import Shadow


def shadows_of(shadows: Iterable[Shadow], *, alias: str, generation_id: str) -> list[Shadow]:
    """The shadows of a request: by a hash of its generation, so that asking again gives the same."""
    return [
        shadow
        for shadow in shadows
        if shadow.alias == alias
        and (shadow.share >= 1.0 or hash_point("shadow", shadow.name, generation_id) < shadow.share)
    ]
