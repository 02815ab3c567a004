"""What checks cost, which tier decides them, and where layers disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from services.moderation.evaluation.metrics import ratio
from services.moderation.evaluation.outcomes import Outcome

_CODE_POINTS_PER_TOKEN = 4
_BUCKETS = ((20, 63), (200, 632), (2000, 1 << 62))
"""About how many tokens, and up to how many of them: the geometric means of neighbours."""


def tokens_of(text: str) -> int:
    """About how many tokens a text has, which for English is a fourth of its characters."""
    return -(-len(text) // _CODE_POINTS_PER_TOKEN)


def latency(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """What a check takes, one at a time, in milliseconds by the clock and of a core.

    Checks for harm and for entities are counted apart.
    """
    judged = [outcome for outcome in outcomes if not outcome.row.is_pii]
    entities = [outcome for outcome in outcomes if outcome.row.is_pii]
    by_length = {}
    lower = 0
    for tokens, upto in _BUCKETS:
        chosen = [outcome for outcome in judged if lower < tokens_of(outcome.row.text) <= upto]
        if chosen:
            by_length[str(tokens)] = _both_times(chosen)
        lower = upto
    names = sorted({name for outcome in judged for name in outcome.layers})
    return {
        "checks": _both_times(judged),
        "checks_per_s_per_core": _per_core(judged),
        "tokens": by_length,
        "layers": {
            name: {"checks": len(seconds), **_times(seconds)}
            for name in names
            if (seconds := [outcome.layers[name].seconds for outcome in judged if name in outcome.layers])
        },
        "entities": _both_times(entities),
        "entities_per_s_per_core": _per_core(entities),
    }


def tiers(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """How many checks each tier decided, and which share of all."""
    counts = Counter(outcome.tier for outcome in outcomes if not outcome.row.is_pii)
    return {name: {"checks": count, "share": count / counts.total()} for name, count in counts.most_common()}


def layers(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """What each layer flags of the unsafe and of the safe texts that it saw."""
    seen: dict[str, Counter[tuple[bool, bool]]] = {}
    for outcome in outcomes:
        for name, layer in outcome.layers.items():
            seen.setdefault(name, Counter())[outcome.row.unsafe, layer.flagged] += 1
    return {
        name: {
            "unsafe": counts[True, True] + counts[True, False],
            "flagged_unsafe": counts[True, True],
            "safe": counts[False, True] + counts[False, False],
            "flagged_safe": counts[False, True],
        }
        for name, counts in seen.items()
    }


def disagreement(outcomes: Sequence[Outcome]) -> list[dict[str, object]]:
    """For each two layers what both saw and only one of them flags."""
    names = sorted({name for outcome in outcomes for name in outcome.layers})
    found: list[dict[str, object]] = []
    for first, second in combinations(names, 2):
        counts: Counter[tuple[bool, bool, bool]] = Counter(
            (outcome.row.unsafe, outcome.layers[first].flagged, outcome.layers[second].flagged)
            for outcome in outcomes
            if first in outcome.layers and second in outcome.layers
        )
        if not counts:
            continue
        apart = sum(number for (_, one, other), number in counts.items() if one != other)
        found.append(
            {
                "layers": [first, second],
                "both_saw": counts.total(),
                "disagree": apart,
                "share": ratio(apart, counts.total()),
                f"only_{first}": {"unsafe": counts[True, True, False], "safe": counts[False, True, False]},
                f"only_{second}": {"unsafe": counts[True, False, True], "safe": counts[False, False, True]},
            }
        )
    return found


def _times(seconds: Sequence[float], *, prefix: str = "") -> dict[str, float]:
    p50, p99 = np.percentile(np.array(seconds), (50, 99)) * 1000
    return {f"{prefix}p50_ms": round(float(p50), 4), f"{prefix}p99_ms": round(float(p99), 4)}


def _both_times(outcomes: Sequence[Outcome]) -> dict[str, float] | None:
    if not outcomes:
        return None
    return {
        "checks": len(outcomes),
        **_times([outcome.seconds for outcome in outcomes]),
        **_times([outcome.cpu_seconds for outcome in outcomes], prefix="cpu_"),
    }


def _per_core(outcomes: Sequence[Outcome]) -> float | None:
    spent = sum(outcome.cpu_seconds for outcome in outcomes)
    return round(len(outcomes) / spent, 1) if spent else None
