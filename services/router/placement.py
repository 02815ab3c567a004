"""Which replica takes a generation. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.router.model import Candidate, Option, Placement

AFFINITY_SLACK = 0.25
"""How much longer than the best a conversation may wait for the replica that holds its earlier turns in its cache."""

LATENCY_HALF_LIFE_S = 10.0


def expected_wait(option: Option) -> float:
    """Milliseconds that a generation sent there would wait for its first token, as far as one can tell."""
    return option.latency_ms * (1.0 + option.in_flight / option.slots)


def settled_latency(reported_ms: float, *, age_s: float, floor_ms: float) -> float:
    """The latency to expect of a replica whose own figure was last heard to change `age_s` ago.

    The figure moves only when the replica is used. Taken as it stands, one slow answer would keep a replica out of use,
    and so its figure from ever improving; so it fades towards that of the best replica, and is tried again.
    A replica without a figure (0) is expected to be as good as the best.
    """
    if reported_ms <= floor_ms:
        return reported_ms if reported_ms > 0.0 else floor_ms
    return floor_ms + (reported_ms - floor_ms) * math.exp2(-max(age_s, 0.0) / LATENCY_HALF_LIFE_S)


def place(options: Sequence[Option], *, sticky: bool) -> Placement | None:
    """Choose the replica with the least expected wait; None when there is no option.

    `options` stand in the order in which the request prefers them by itself; equals are decided by it. When `sticky`,
    the first of them is the request's home and is kept as long as it is nearly as good as the best.
    """
    if not options:
        return None
    home = Candidate(options[0], expected_wait(options[0]))
    if len(options) == 1:
        return Placement(chosen=home, ranked=(home,), rule="only")
    rest = [Candidate(option, expected_wait(option)) for option in options[1:]]
    ranked = tuple(sorted([home, *rest], key=_by_score))
    best = ranked[0]
    if sticky and home is not best and home.score <= best.score * (1.0 + AFFINITY_SLACK):
        return Placement(chosen=home, ranked=ranked, rule="affinity")
    return Placement(chosen=best, ranked=ranked, rule="least_loaded")


def _by_score(candidate: Candidate) -> float:
    return candidate.score
