"""Which of several replicas takes a generation. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.router.locality import PENALTIES
from services.router.model import Candidate, Option, Placement

KNOWN_BOUND = 3.0
"""How many times the best score a replica may have that holds the beginning of the prompt in its cache."""
HOME_BOUND = 1.6
"""And one that may hold it: all routers send there what they know nothing of."""
GRACE_MS = 10.0
"""A difference that no one notices moves no conversation."""

QUEUE_COST = 3.0
"""What a wait in a queue counts for: who queues also makes those wait who come after."""

LATENCY_HALF_LIFE_S = 10.0


def expected_wait(option: Option) -> float:
    """Milliseconds that a generation sent there would wait for its first token, as far as one can tell.

    The service takes longer the more run beside it. What finds no slot also waits until those before it have ended.
    """
    return _service(option) + _queue(option)


def score(option: Option) -> float:
    """What is compared: the expected wait, its queue counted `QUEUE_COST` times, worse the farther away it is."""
    return (_service(option) + QUEUE_COST * _queue(option)) * PENALTIES[option.distance]


def _service(option: Option) -> float:
    return option.latency_ms * (1.0 + option.in_flight / option.slots)


def _queue(option: Option) -> float:
    ahead = option.in_flight + 1 - option.slots
    return ahead * option.hold_ms / option.slots if ahead > 0 else 0.0


def settled_latency(reported_ms: float, *, age_s: float, floor_ms: float) -> float:
    """The latency to expect of a replica whose own figure was last heard to change `age_s` ago.

    The figure moves only when the replica is used. Taken as it stands, one slow answer would keep a replica out of use,
    and so its figure from ever improving; so it fades towards that of the best replica, and is tried again.
    A replica without a figure (0) is expected to be as good as the best.
    """
    if reported_ms <= floor_ms:
        return reported_ms if reported_ms > 0.0 else floor_ms
    return floor_ms + (reported_ms - floor_ms) * math.exp2(-max(age_s, 0.0) / LATENCY_HALF_LIFE_S)


def place(options: Sequence[Option], *, known: bool = False, homes: int = 0, rule: str = "least_wait") -> Placement:
    """Choose one of the options, of which there is at least one.

    When `known`, the first of them took the conversation's last turn. The `homes` after it are where every router
    would look for it, in this order. They are kept while they are nearly as good as the best; otherwise the best is
    taken, by `rule`. Equals are decided by the order.
    """
    candidates = [Candidate(option, score(option)) for option in options]
    ranked = tuple(sorted(candidates, key=_by_score))
    best = ranked[0]
    if len(candidates) == 1:
        return Placement(chosen=best, ranked=ranked, rule="only")
    if known and candidates[0].score <= best.score * KNOWN_BOUND + GRACE_MS:
        return Placement(chosen=candidates[0], ranked=ranked, rule="affinity")
    for home in candidates[int(known) : int(known) + homes]:
        if home.score <= best.score * HOME_BOUND + GRACE_MS:
            return Placement(chosen=home, ranked=ranked, rule="affinity")
    return Placement(chosen=best, ranked=ranked, rule=rule)


def _by_score(candidate: Candidate) -> float:
    return candidate.score
