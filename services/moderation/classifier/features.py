"""A text as a set of hashed features: words, pairs of words and short runs of characters."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

BUCKETS = 1 << 18
"""Features that the linear model tells apart. Others share a bucket with one of them."""

_RUNS = (3, 4, 5)
"""Lengths of the runs of characters."""
_TOKEN = re.compile(r"\w+|[^\w\s]")
_BASE = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2**64."""
_SPREAD = np.uint64(0xFF51AFD7ED558CCD)
_SHIFT = np.uint64(64 - 18)
_WORD, _PAIR = np.uint64(0x51ED270B1D2C55A7), np.uint64(0x2545F4914F6CDD1D)
_LONGEST = 4_096
"""Characters of a text that is hashed at once. The classifier cuts its texts shorter."""


def _powers(base: int) -> NDArray[np.uint64]:
    powers = [1]
    for _ in range(2 * _LONGEST + 2):
        powers.append(powers[-1] * base % (1 << 64))
    return np.array(powers, dtype=np.uint64)


_POWERS = _powers(_BASE)
_INVERSES = _powers(pow(_BASE, -1, 1 << 64))


def buckets(text: str) -> NDArray[np.intp]:
    """The buckets of a text's features, each once, in order.

    One polynomial hash runs over the whole text; that of any part is the difference of two of its sums, so a feature
    costs a few vector operations and no loop. The hash is ours: Python's own differs from process to process.
    """
    tokens = _TOKEN.findall(text[:_LONGEST].lower())
    if not tokens:
        return np.zeros(0, dtype=np.intp)
    joined = f" {' '.join(tokens)} "[: 2 * _LONGEST]
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64) + np.uint64(1)
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum(codes * _POWERS[: len(codes)], out=sums[1:])

    spaces = np.flatnonzero(codes == 33)  # a space, and one
    starts, ends = spaces[:-1] + 1, spaces[1:]
    found = [(sums[ends] - sums[starts]) * _INVERSES[starts] ^ _WORD]
    if len(starts) > 1:
        found.append((sums[ends[1:]] - sums[starts[:-1]]) * _INVERSES[starts[:-1]] ^ _PAIR)
    found += [
        (sums[run:] - sums[:-run]) * _INVERSES[: len(codes) - run + 1] + np.uint64(run)
        for run in _RUNS
        if len(codes) >= run
    ]
    hashes = np.concatenate(found)
    hashes = (hashes ^ (hashes >> np.uint64(29))) * _SPREAD
    return np.unique(hashes >> _SHIFT).astype(np.intp)
