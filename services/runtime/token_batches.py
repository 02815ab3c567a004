"""Which texts are embedded together."""

from __future__ import annotations

from collections.abc import Sequence


def make_batches(lengths: Sequence[int], *, max_tokens: int) -> list[list[int]]:
    """Places of texts, in batches of similar length, the shortest first.

    A batch costs what its longest text costs for each: texts of like length go together, and no batch costs more than
    `max_tokens`, unless one text alone does.
    """
    batches: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and (len(batches[-1]) + 1) * lengths[at] <= max_tokens:
            batches[-1].append(at)
        else:
            batches.append([at])
    return batches
