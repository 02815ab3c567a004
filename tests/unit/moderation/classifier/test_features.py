"""Hashed features: the same everywhere, and no text that breaks them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.moderation.classifier.features import BUCKETS, buckets

ANY_TEXT = st.text(st.characters(codec=None), max_size=300)


@given(ANY_TEXT)
def test_buckets_are_in_order_each_once_and_in_range(text: str) -> None:
    found = buckets(text)
    assert (np.diff(found) > 0).all()
    assert ((found >= 0) & (found < BUCKETS)).all()


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12))
def test_a_word_leaves_the_same_features_wherever_it_stands(word: str) -> None:
    alone, within = buckets(word), buckets(f"some other words, {word} and more of them")
    assert np.isin(alone, within).all()


def test_case_and_white_space_make_no_difference() -> None:
    assert (buckets("How do I\n\tcook   RICE?") == buckets("how do i cook rice ?")).all()


def test_words_and_their_order_make_a_difference() -> None:
    assert set(buckets("dog bites man")) != set(buckets("man bites dog"))


def test_nothing_has_no_features() -> None:
    assert len(buckets("")) == len(buckets(" \n\t")) == 0


def test_another_process_finds_the_same() -> None:
    text = "Straße, naïve 🙂 and \u05e9\u05dc\u05d5\u05dd"
    program = f"from services.moderation.classifier.features import buckets; print(buckets({text!r}).tolist())"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(buckets(text).tolist())
