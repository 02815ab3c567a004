"""Which model answers a request that leaves the choice to the router. Pure.

Among the models that are good enough for it, the one that costs least: the expected price, and what the wait for its
queue is worth. When none is good enough, the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.router.classifier import Classification
from services.router.model import ModelScore
from services.runtime.model_registry import ModelEntry
from services.runtime.routing_policy import RequestClass

CHARACTERS_PER_TOKEN = 4
"""A rough lower bound of tokens: a prompt has seldom fewer than its characters divided by this."""

ANSWER_TOKENS: Mapping[RequestClass, int] = {"simple": 120, "long": 300, "math": 350, "code": 450, "reasoning": 500}
"""Length of a usual answer. Only how it compares with the prompt matters, and only for the choice."""

_IMPOSSIBLE = frozenset({"tier", "capability", "context", "no_replica"})


@dataclass(frozen=True, slots=True)
class Prospect:
    """A model that could answer, and how long one would wait for its first token."""

    entry: ModelEntry
    wait_ms: float


@dataclass(frozen=True, slots=True)
class _Offer:
    entry: ModelEntry
    power: float
    price: float
    cost: float
    is_good: bool


def fits(entry: ModelEntry, *, prompt_characters: int) -> bool:
    """Whether the prompt may fit into the model's context, as far as one can tell without counting."""
    return prompt_characters // CHARACTERS_PER_TOKEN < entry.context_length


def price_usd(entry: ModelEntry, *, prompt_tokens: int, answer_tokens: int) -> float:
    """What a request would cost; 0 for a model without prices."""
    if entry.prices is None:
        return 0.0
    prices = entry.prices
    answer_tokens = min(answer_tokens, entry.max_output_tokens)
    return (prompt_tokens * prices.input_per_million + answer_tokens * prices.output_per_million) / 1e6


def rank(
    prospects: Sequence[Prospect],
    *,
    classification: Classification,
    prompt_characters: int,
    wait_cost_per_s: float,
) -> tuple[list[ModelEntry], tuple[ModelScore, ...]]:
    """The models, best first, and how each scored: its cost in US dollars, lower is better."""
    prompt_tokens = prompt_characters // CHARACTERS_PER_TOKEN
    offers = [_offer(prospect, classification, prompt_tokens, wait_cost_per_s) for prospect in prospects]
    ranked = sorted(offers, key=_preference)
    winner = ranked[0]
    scores = tuple(ModelScore(offer.entry.name, offer.cost, _why_not(offer, winner)) for offer in ranked)
    return [offer.entry for offer in ranked], scores


def taken(scores: Sequence[ModelScore], *, model: str) -> tuple[ModelScore, ...]:
    """The scores when `model` is what answers: those that were preferred to it could not, as it has turned out."""
    tried = True
    told = []
    for score in scores:
        if score.model == model:
            tried = False
            told.append(replace(score, reason=""))
        elif tried and score.reason not in _IMPOSSIBLE:
            told.append(replace(score, reason="no_replica"))
        else:
            told.append(score)
    return tuple(told)


def _offer(prospect: Prospect, classification: Classification, prompt_tokens: int, wait_cost_per_s: float) -> _Offer:
    entry = prospect.entry
    power = entry.skills.get(classification.kind, entry.quality)
    price = price_usd(entry, prompt_tokens=prompt_tokens, answer_tokens=ANSWER_TOKENS[classification.kind])
    return _Offer(
        entry=entry,
        power=power,
        price=price,
        cost=price + wait_cost_per_s * prospect.wait_ms / 1000,
        is_good=power >= classification.difficulty,
    )


def _preference(offer: _Offer) -> tuple[int, float, float]:
    """Those that are good enough by cost, equals by what they are good for; then the others, the best first."""
    if offer.is_good:
        return (0, offer.cost, -offer.power)
    return (1, -offer.power, offer.cost)


def _why_not(offer: _Offer, winner: _Offer) -> str:
    if offer is winner:
        return ""
    if not offer.is_good:
        return "too_weak"
    # Cheaper than the one that was taken, were it not for the wait.
    return "busy" if offer.price < winner.price else "price"
