"""What rows teach, and which are left out together."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.moderation.classifier.artefact import CATEGORIES
from training.augmentation import vary
from training.categories import category_of
from training.lookalikes import generate
from training.rows import BENIGN_SETS, FOLDS, digest, fold_of, read_rows, to_examples

Row = dict[str, Any]


def row(**fields: Any) -> Row:
    return {
        "id": "x-1",
        "text": "some text",
        "label": "safe",
        "categories": [],
        "kind": "input",
        "set": "arena_hard",
        "head": "benign",
        "cluster": "c1",
        "part": "train",
    } | fields


def targets(**fields: Any) -> list[float | None]:
    found = to_examples([row(**fields)])[0].targets
    return [None if math.isnan(target) else target for target in found]


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, [0, 0, None]),
        ({"set": "advbench", "head": "harm", "label": "unsafe"}, [1, 0, None]),
        ({"set": "xstest", "head": "harm", "label": "safe"}, [0, 0, None]),
        # Nobody said whether an attack asks for harm.
        ({"set": "inthewild_jailbreak", "head": "attack", "label": "unsafe"}, [None, 1, None]),
        ({"set": "ailuminate_demo", "head": "harm", "label": "unsafe", "categories": ["skilled"]}, [1, None, None]),
        # Personal data are another layer's: to this model these are ordinary texts.
        ({"set": "pii_synth", "head": "pii", "label": "unsafe"}, [0, 0, None]),
        ({"set": "gptfuzz_out_train", "head": "harm_output", "kind": "output", "label": "unsafe"}, [None, None, 1]),
        # A hateful statement is one, whoever makes it.
        ({"set": "hatecheck", "head": "harm", "label": "unsafe"}, [1, 0, 1]),
    ],
)
def test_rows_teach_what_their_labels_say_and_nothing_else(fields: Row, wanted: list[float | None]) -> None:
    assert targets(**fields) == wanted


def test_categories_are_shares_of_those_that_are_known() -> None:
    known, unknown, safe = to_examples(
        [
            row(set="openai_moderation", head="harm", label="unsafe", categories=["hate", "violence", "other"]),
            row(set="harmfulqa", head="harm", label="unsafe", categories=["Health and Medicine"]),
            row(set="openai_moderation", head="harm", label="safe", categories=["hate"]),
        ]
    )
    assert dict(zip(CATEGORIES, known.categories, strict=True)) == {
        "hate": 0.5,
        "harassment": 0,
        "self-harm": 0,
        "sexual": 0,
        "violence": 0.5,
        "illicit": 0,
    }
    assert sum(unknown.categories) == sum(safe.categories) == 0


def test_a_row_of_a_large_set_counts_for_less() -> None:
    examples = to_examples([row(set="gsm8k", id=str(at)) for at in range(900)] + [row(set="truthfulqa")])
    assert examples[0].weights[0] == pytest.approx(1 / 3**0.5)
    assert examples[-1].weights[0] > 1


def test_every_fold_leaves_out_harmful_and_harmless_sets() -> None:
    assert len(frozenset().union(*FOLDS)) == sum(map(len, FOLDS))
    assert all(fold & BENIGN_SETS and fold - BENIGN_SETS for fold in FOLDS)
    assert fold_of(to_examples([row(set="lookalike_hate")])[0]) is None
    assert fold_of(to_examples([row(set="xstest")])[0]) == 3


def test_our_own_rows_fit_in() -> None:
    rows = generate(seed=1, count=200)
    examples = to_examples(rows)
    assert {example.part for example in examples} == {"train", "val"}
    assert all(category_of(example.set, label) for example in examples if example.unsafe for label in ["illicit"])
    assert digest(rows) == digest(generate(seed=1, count=200)) != digest(rows[1:])


def test_a_folder_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="DATA=<folder>"):
        read_rows(tmp_path)


@given(st.text(max_size=1_500), st.integers(0, 1_000), st.sampled_from(["input", "output"]))
def test_a_varied_text_is_the_same_for_the_same_seed(text: str, seed: int, kind: str) -> None:
    assert vary(text, kind=kind, random=Random(seed)) == vary(text, kind=kind, random=Random(seed))
