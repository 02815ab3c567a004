"""Tokens per second over the last few seconds."""

from __future__ import annotations

BUCKET_S = 0.5
BUCKETS = 8


class Throughput:
    """A ring of counters, one per half second; adding is a comparison and an addition."""

    __slots__ = ("_bucket", "_counts", "_since")

    def __init__(self, now: float) -> None:
        self._counts = [0] * BUCKETS
        self._bucket = int(now / BUCKET_S)
        self._since = now

    def add(self, tokens: int, now: float) -> None:
        """Count tokens that came at monotonic time `now`."""
        bucket = int(now / BUCKET_S)
        if bucket != self._bucket:
            self._advance(bucket)
        self._counts[bucket % BUCKETS] += tokens

    def per_second(self, now: float) -> float:
        """The rate at monotonic time `now`."""
        bucket = int(now / BUCKET_S)
        if bucket != self._bucket:
            self._advance(bucket)
        oldest = (bucket - BUCKETS + 1) * BUCKET_S
        return sum(self._counts) / max(BUCKET_S, now - max(oldest, self._since))

    def _advance(self, bucket: int) -> None:
        for stale in range(max(self._bucket + 1, bucket - BUCKETS + 1), bucket + 1):
            self._counts[stale % BUCKETS] = 0
        self._bucket = bucket
