"""Log-probabilities as the library gives them, as ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.inference.engines.tensorrt_llm.vocabulary import Vocabulary
from services.inference.model import TokenLogprob


def logprob_of(token: int, given: Any) -> float:
    """The log-probability of the token that was chosen.

    One of its samplers leaves it out when it was not among the likeliest that were asked for: then it is at most the
    least of those.
    """
    if not isinstance(given, Mapping):
        return min(0.0, float(given))
    found = given.get(token)
    if found is None:
        return min((min(0.0, float(entry.logprob)) for entry in given.values()), default=0.0)
    return min(0.0, float(found.logprob))


def told_logprob(token: int, given: Any, *, top: int, vocabulary: Vocabulary) -> TokenLogprob:
    """What the model thought of one token, with the likeliest `top` ones at its place."""
    likeliest: tuple[TokenLogprob, ...] = ()
    if top and isinstance(given, Mapping):
        ranked = sorted(given.items(), key=lambda item: -item[1].logprob)[:top]
        likeliest = tuple(_entry(other, min(0.0, float(entry.logprob)), vocabulary) for other, entry in ranked)
    return _entry(token, logprob_of(token, given), vocabulary, likeliest)


def _entry(token: int, logprob: float, vocabulary: Vocabulary, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    data = vocabulary.shown(token)
    return TokenLogprob(data.decode(errors="ignore"), data, logprob, top)
