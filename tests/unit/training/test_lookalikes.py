"""What training relies on: the same rows for the same seed, no text under two labels, variety, nothing forbidden."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from random import Random

import pytest

from training.lookalikes import Row, generate
from training.lookalikes.grammar import expand, gerund, has_gerund, variants
from training.lookalikes.rows import normalised

CATEGORIES = {"hate", "harassment", "self-harm", "sexual", "violence", "illicit", "jailbreak", "harmful_output"}
HEADS = {"harm", "attack", "benign", "harm_output"}


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return generate(seed=1)


def test_one_seed_gives_the_same_rows_and_another_gives_others(rows: list[Row]) -> None:
    assert generate(seed=1) == rows
    assert {row["text"] for row in generate(seed=2)} != {row["text"] for row in rows}


def test_count_takes_a_sample(rows: list[Row]) -> None:
    assert generate(seed=1, count=500) == rows[:500]


def test_size_and_shares(rows: list[Row]) -> None:
    assert 10_000 <= len(rows) <= 20_000
    safe = [row for row in rows if row["label"] == "safe"]
    assert 0.6 <= len(safe) / len(rows) <= 0.75
    heads = Counter((row["head"], row["label"]) for row in rows)
    assert heads["harm", "unsafe"] > 1_500
    assert heads["attack", "unsafe"] > 500
    assert heads["harm_output", "safe"] > heads["harm_output", "unsafe"] > 150
    found = {category for row in rows for category in row["categories"]}
    assert found == CATEGORIES
    val = sum(row["part"] == "val" for row in rows) / len(rows)
    assert 0.05 < val < 0.2


def test_rows_have_the_form_of_the_public_data(rows: list[Row]) -> None:
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["head"] in HEADS
        assert (row["head"] == "harm_output") == (row["kind"] == "output")
        assert bool(row["categories"]) == (row["label"] == "unsafe")
        assert row["set"].startswith("lookalike_")
        assert row["text"] == row["text"].strip()
        assert 1 < len(row["text"]) <= 1_800
        assert not re.search(r"[{}|]{2}|<act>|<ing>|<topic>|\\n", row["text"])


def test_no_text_twice_and_none_under_two_labels(rows: list[Row]) -> None:
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        labels[normalised(row["text"])].add(row["label"])
    assert len(labels) == len(rows)
    assert all(len(found) == 1 for found in labels.values())


def test_safe_and_unsafe_texts_differ_in_a_word_that_means_something(rows: list[Row]) -> None:
    """Contrast pairs share their form, but are never the same sentence in another order or with another small word."""
    small = set("a an the of to in on at for my your i me is are it and or do does how what can".split())
    meanings: defaultdict[frozenset[str], set[str]] = defaultdict(set)
    for row in rows:
        meanings[frozenset(normalised(row["text"]).split()) - small].add(row["label"])
    assert [words for words, found in meanings.items() if len(found) > 1] == []


def test_one_cluster_is_on_one_side_with_one_label_and_is_no_large_part(rows: list[Row]) -> None:
    clusters: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        clusters[row["cluster"]].append(row)
    for members in clusters.values():
        assert len({(row["part"], row["label"], row["set"]) for row in members}) == 1
        assert len(members) <= len(rows) / 50
    assert len(clusters) > 1_000


def test_near_duplicates_of_one_line_are_left_out(rows: list[Row]) -> None:
    clusters: defaultdict[str, list[frozenset[str]]] = defaultdict(list)
    for row in rows:
        clusters[row["cluster"]].append(frozenset(normalised(row["text"]).split()))
    for bags in clusters.values():
        for place, bag in enumerate(bags):
            for other in bags[:place]:
                assert len(bag & other) / len(bag | other) <= 0.85


@pytest.mark.parametrize("seed", range(1, 4))
def test_nothing_sexual_about_minors(seed: int) -> None:
    """In no row that is to be flagged do both kinds of words stand: alternatives combine by chance."""
    minors = re.compile(
        r"\b(child|children|kids?|minors?|underage|teen\w*|boys?|girls?|school\w*|pupils?|toddlers?|baby|sons?|daughters?|"
        r"nieces?|nephews?|classmates?|stepsister|students?)\b"
    )
    sexual = re.compile(
        r"\b(sex\w*|porn\w*|nudes?|naked|rap(e|es|ed|ist)|fuck\w*|prostitut\w*|erotic\w*|horny|undress\w*|brothels?|"
        r"p(a)?edo\w*|masturbat\w*|grop\w*)\b"
    )
    for row in generate(seed=seed):
        text = row["text"].lower()
        if row["label"] == "unsafe" and ("sexual" in row["categories"] or sexual.search(text)):
            assert not minors.search(text), text


def test_forms_do_not_tell_the_label(rows: list[Row]) -> None:
    """The openings that mark the public harmful sets stand before harmless requests too, and more often."""
    for opening in (
        "how can i",
        "what are some ways",
        "write a tutorial",
        "create a",
        "explain how to",
        "give detailed",
    ):
        found = Counter(row["label"] for row in rows if row["text"].lower().startswith(opening))
        assert found["safe"] > found["unsafe"] > 0, opening


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        ("kill a process", "killing a process"),
        ("hang a picture", "hanging a picture"),
        ("make bread", "making bread"),
        ("strip wires", "stripping wires"),
        ("tie a knot", "tying a knot"),
        ("open a jar", "opening a jar"),
        ("beat eggs", "beating eggs"),
        ("see a doctor", "seeing a doctor"),
        ("fix a tap", "fixing a tap"),
    ],
)
def test_gerund(act: str, expected: str) -> None:
    assert gerund(act) == expected


def test_acts_with_two_verbs_are_not_turned() -> None:
    assert not has_gerund("take a loan and never pay it back")
    assert has_gerund("take a loan")


def test_expansion_nests_and_refuses_unknown_slots() -> None:
    slots = {"fruit": ("apple", "pear")}
    rng = Random(3)
    texts = {expand("{eat|peel} {an {fruit}|a plum}", slots=slots, rng=rng) for _ in range(200)}
    assert texts == {"eat an apple", "eat an pear", "eat a plum", "peel an apple", "peel an pear", "peel a plum"}
    with pytest.raises(ValueError, match="no slot 'meat'"):
        expand("eat {meat}", slots=slots, rng=rng)


def test_variants_are_counted() -> None:
    assert variants("{a|b} and {c|d|e}", slots={}) == 6
    assert variants("plain", slots={}) == 1
