"""When the beginning of an answer is too weak to be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.conversation.probe import Judgement, Probe
from services.conversation.route_model import Cascade

STRONG, WEAK = Judgement.STRONG, Judgement.WEAK


def probe(*, tokens: int = 4, least: float | None = None, openings: tuple[str, ...] = ()) -> Probe:
    return Probe(Cascade("large", tokens, least, openings))


def test_nothing_is_decided_before_enough_was_seen() -> None:
    seen = probe(tokens=3)
    seen.add("one ", 1)
    seen.add("two ", 1)
    assert seen.judgement is None
    seen.add("three", 1)
    assert seen.judgement is STRONG


@pytest.mark.parametrize("text", ["I don't know.", "  i DON'T KNOW what that is"])
def test_a_weak_opening_is_decided_at_once(text: str) -> None:
    seen = probe(tokens=100, openings=("Sorry", "I don't know"))
    for character in text:
        seen.add(character, 1)
    assert seen.judgement is WEAK


@pytest.mark.parametrize(("logprob", "judgement"), [(-0.5, STRONG), (-1.5, WEAK)])
def test_confidence(logprob: float, judgement: Judgement) -> None:
    seen = probe(tokens=4, least=-1.0)
    for _ in range(4):
        seen.add_logprob(logprob, 1)
        seen.add("word ", 1)
    assert seen.judgement is judgement


def test_without_a_word_of_the_engine_confidence_does_not_count() -> None:
    seen = probe(tokens=1, least=-0.001)
    seen.add("word", 1)
    assert seen.judgement is STRONG


@pytest.mark.parametrize(("text", "judgement"), [("", WEAK), (" \n", WEAK), ("Yes.", STRONG), ("no " * 9, WEAK)])
def test_an_answer_that_ends_early_is_judged_whole(text: str, judgement: Judgement) -> None:
    seen = probe(tokens=100)
    if text:
        seen.add(text, 1)
    seen.end()
    assert seen.judgement is judgement


@given(st.lists(st.tuples(st.text(max_size=12), st.integers(0, 3), st.floats(-8, 0)), max_size=30))
def test_a_judgement_stands(pieces: list[tuple[str, int, float]]) -> None:
    seen = probe(tokens=6, least=-2.0, openings=("no",))
    first: Judgement | None = None
    for text, tokens, logprob in pieces:
        seen.add_logprob(logprob * tokens, tokens)
        seen.add(text, tokens)
        first = first or seen.judgement
        assert seen.judgement is first
    seen.end()
    assert seen.judgement is not None
    assert first in (None, seen.judgement)
