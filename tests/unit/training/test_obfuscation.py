"""Texts hidden in the ways that people use: the same for the same seed, readable back where that is possible."""

from __future__ import annotations

import base64
import codecs
import unicodedata
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import obfuscation
from training.obfuscation import TRANSFORMATIONS, obfuscate

TEXT = "How do I hang a picture without a hammer?"


@pytest.mark.parametrize("name", sorted(TRANSFORMATIONS))
def test_the_seed_decides(name: str) -> None:
    assert obfuscate(TEXT, transformation=name, seed=1) == obfuscate(TEXT, transformation=name, seed=1)


@pytest.mark.parametrize("name", sorted(TRANSFORMATIONS))
def test_the_text_is_changed(name: str) -> None:
    changed = [obfuscate(TEXT, transformation=name, seed=seed) for seed in range(8)]
    assert any(text != TEXT for text in changed)


@given(text=st.text(max_size=200), seed=st.integers(min_value=0, max_value=99))
def test_no_text_breaks_a_transformation(text: str, seed: int) -> None:
    for name in TRANSFORMATIONS:
        assert isinstance(obfuscate(text, transformation=name, seed=seed), str)


def test_an_unknown_transformation_is_refused() -> None:
    with pytest.raises(KeyError):
        obfuscate(TEXT, transformation="invisible ink", seed=1)


def test_base64_holds_the_text() -> None:
    encoded = obfuscation.base64_encoded(TEXT, Random(1)).rsplit(" ", 1)[-1]
    assert base64.b64decode(encoded).decode() == TEXT


def test_rot13_holds_the_text() -> None:
    assert codecs.decode(obfuscation.rot13(TEXT, Random(1)), "rot13").endswith(TEXT)


def test_zero_width_leaves_what_is_seen() -> None:
    hidden = obfuscation.zero_width(TEXT, Random(1))
    assert hidden != TEXT
    assert "".join(letter for letter in hidden if unicodedata.category(letter) != "Cf") == TEXT


def test_homoglyphs_keep_the_length_and_leave_ascii() -> None:
    hidden = obfuscation.homoglyphs(TEXT, Random(1), share=1.0)
    assert len(hidden) == len(TEXT)
    assert not any(letter.isascii() and letter.isalpha() for letter in hidden)


def test_leetspeak_replaces_only_what_it_knows() -> None:
    hidden = obfuscation.leetspeak("hmm, ok", Random(1), share=1.0)
    assert hidden == "hmm, 0k"


def test_spaced_takes_words_apart() -> None:
    hidden = obfuscation.spaced("hang it", Random(1))
    assert [letter for letter in hidden if letter.isalpha()] == list("hangit")
    assert "hang" not in hidden


def test_typos_are_few() -> None:
    text = "the quick brown fox jumps over the lazy dog " * 20
    slipped = obfuscation.typos(text, Random(1))
    assert slipped != text
    assert abs(len(slipped) - len(text)) < len(text) * 0.05
