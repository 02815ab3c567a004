"""What gathered for a peer since the last write becomes at most one delta per generation."""

from __future__ import annotations

from collections.abc import Iterable

from services.inference.engines.telling import join
from services.inference.model import Delta


def merge(deltas: Iterable[Delta]) -> list[Delta]:
    """Merge deltas of the same generation, keeping their order. May change the deltas it is given."""
    merged: dict[str, Delta] = {}
    for delta in deltas:
        earlier = merged.get(delta.generation_id)
        if earlier is None:
            merged[delta.generation_id] = delta
            continue
        earlier.text, earlier.token_ids, earlier.token_count = join(
            (earlier.text, earlier.token_ids, earlier.token_count), (delta.text, delta.token_ids, delta.token_count)
        )
        earlier.end = delta.end
    return list(merged.values())
