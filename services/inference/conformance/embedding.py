"""Vectors of texts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.inference.conformance.case import Case
from services.inference.conformance.expectation import expect
from services.inference.conformance.subject import Subject
from services.inference.model import Capability

_CAT, _KITTEN, _TAX = (
    "The cat sleeps on the sofa.",
    "A kitten is napping on the couch.",
    "Corporate tax law was reformed by the parliament.",
)
_EMBEDDINGS = frozenset({Capability.EMBEDDINGS})


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def _unit_length(subject: Subject) -> None:
    embeddings = await subject.engine.embed((_CAT, _TAX, "x", "日本語 😀"))
    expect(len(embeddings.vectors) == 4, f"{len(embeddings.vectors)} vectors came for 4 texts")
    expect(len({len(vector) for vector in embeddings.vectors}) == 1, "the vectors have different numbers of dimensions")
    for vector in embeddings.vectors:
        length = math.sqrt(_dot(vector, vector))
        expect(abs(length - 1) < 1e-3, f"a vector has the length {length}")
    expect(embeddings.prompt_tokens > 4, f"four texts took {embeddings.prompt_tokens} tokens")
    expect(embeddings.truncated == 0, "a short text was truncated")


async def _same(subject: Subject) -> None:
    first, second = (await subject.engine.embed((_CAT, _CAT))).vectors
    (alone,) = (await subject.engine.embed((_CAT,))).vectors
    (beside, _) = (await subject.engine.embed((_CAT, _TAX * 3))).vectors
    for other in (second, alone, beside):
        expect(_dot(first, other) > 0.999, "the same text has two vectors")


async def _order(subject: Subject) -> None:
    texts = [f"{_CAT if n % 2 else _TAX} Number {n}." for n in range(40)]
    many = (await subject.engine.embed(texts)).vectors
    for n in (0, 17, 39):
        (alone,) = (await subject.engine.embed((texts[n],))).vectors
        expect(_dot(many[n], alone) > 0.999, f"vector {n} of {len(texts)} is that of another text")


async def _meaning(subject: Subject) -> None:
    cat, kitten, tax = (await subject.engine.embed((_CAT, _KITTEN, _TAX))).vectors
    near, far = _dot(cat, kitten), _dot(cat, tax)
    expect(near > far, f"texts of near meaning have {near:.3f} in common, and of far meaning {far:.3f}")


async def _truncated(subject: Subject) -> None:
    length = subject.entry.context_length
    embeddings = await subject.engine.embed((_CAT, "word " * (length + 50)))
    expect(embeddings.truncated == 1, f"{embeddings.truncated} texts were truncated, and one is too long")
    expect(embeddings.prompt_tokens <= 2 * length, f"they took {embeddings.prompt_tokens} tokens")
    long = embeddings.vectors[1]
    expect(abs(_dot(long, long) - 1) < 1e-3, "the vector of a truncated text has another length")


def _unless_estimated(subject: Subject) -> str:
    return "" if subject.counts_tokens else "tokens are estimated for this entry, so it leaves long texts to its server"


CASES = (
    Case("embed_unit", "vectors have the length 1", _unit_length, _EMBEDDINGS),
    Case("embed_same", "the same text has the same vector", _same, _EMBEDDINGS),
    Case("embed_order", "many texts have their vectors in their order", _order, _EMBEDDINGS),
    Case("embed_meaning", "texts that mean nearly the same are nearer than others", _meaning, _EMBEDDINGS),
    Case(
        "embed_truncated",
        "a text that is too long is cut, and counted",
        _truncated,
        _EMBEDDINGS,
        unless=_unless_estimated,
    ),
)
