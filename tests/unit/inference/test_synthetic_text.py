"""The synthetic text: deterministic, and its own tokenizer agrees with it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.inference.engines import synthetic_text
from services.inference.model import Message, Role


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_tokens_make_up_the_text(text: str) -> None:
    tape = synthetic_text.cut(text)
    assert "".join(tape.texts) == text
    assert len(tape.texts) == len(tape.ids) == len(tape.pieces) == synthetic_text.count_tokens(text)


def test_some_tokens_end_inside_a_character() -> None:
    assert "" in synthetic_text.cut(" 日本語").texts
    assert "" in synthetic_text.endless_tape().texts


def test_answers_begin_with_a_sentence() -> None:
    tape = synthetic_text.endless_tape()
    for seed in range(200):
        first = tape.texts[tape.start(seed)]
        assert first.startswith(" ") or first == ""


@given(st.integers() | st.none(), st.text(st.characters(exclude_categories=["Cs"])))
def test_the_seed_depends_on_the_prompt_and_the_seed_alone(seed: int | None, text: str) -> None:
    def value(text: str, seed: int | None) -> int:
        return synthetic_text.seed_of((Message(Role.USER, text),), seed)

    assert value(text, seed) == value(text, seed)
    assert value(text, seed) != value(text + "x", seed)
    assert value(text, seed) != value(text, (seed or 0) + 1)


def test_the_preface_says_what_it_is() -> None:
    text = synthetic_text.preface(seed=4, messages=(Message(Role.USER, "Hello"),), tokens=8)
    assert text == "This is the synthetic engine, not a model with seed 4. It was given 1 messages, 8 tokens."
