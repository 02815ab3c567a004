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
        if delta.logprobs:
            earlier.logprobs = [*earlier.logprobs, *delta.logprobs]
        if delta.logprob_sum is not None:
            earlier.logprob_sum = (earlier.logprob_sum or 0.0) + delta.logprob_sum
        if delta.tool_calls:
            earlier.tool_calls = [*earlier.tool_calls, *delta.tool_calls]
        earlier.end = delta.end
    return list(merged.values())
