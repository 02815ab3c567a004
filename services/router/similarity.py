"""What a request is about by its nearness in meaning to examples. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import mul

from services.router.classifier import CLASSES, Classification, judge
from services.runtime.routing_policy import RequestClass

Vector = Sequence[float]
ClassVectors = Mapping[RequestClass, Sequence[Vector]]


def nearness(vector: Vector, examples: ClassVectors) -> dict[RequestClass, float]:
    """The cosine to the nearest example of each class that has some. All vectors have the length 1."""
    return {
        kind: max(sum(map(mul, vector, example)) for example in vectors)
        for kind, vectors in examples.items()
        if vectors
    }


def combine(by_rules: Classification, near: Mapping[RequestClass, float]) -> Classification:
    """Weigh what the rules found with what the examples say.

    A class gains by how much nearer its examples are than those of the others; one without examples neither gains nor
    loses.
    """
    if not near:
        return by_rules
    middle = sum(near.values()) / len(near)
    evidence: dict[RequestClass, float] = {
        kind: min(1.0, max(0.0, by_rules.evidence[kind] + near.get(kind, middle) - middle)) for kind in CLASSES
    }
    return judge(evidence, hard_words=by_rules.hard_words, characters=by_rules.characters)
