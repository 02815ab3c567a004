"""What a request is taken for by its look."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.router.classifier import CLASSES, LONGEST_TEXT, Classification, classify
from services.router.similarity import combine, nearness


def of(text: str) -> Classification:
    return classify(text, characters=len(text))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("simple", "Hello!"),
        ("simple", "What is the capital of France?"),
        ("simple", "Wie spät ist es?"),
        ("simple", "On 2024-05-12 we met at 10:30, and 50% came."),
        ("simple", "I love cats and dogs; birds (some of them) too."),
        ("code", "Write a python function that reverses a list"),
        ("code", "```\nfor i in range(3):\n    print(i)\n```\nwhat does this print?"),
        ("code", 'Fix main.py: Traceback (most recent call last):\n  File "main.py", line 3\nTypeError: x'),
        ("code", "Schreibe eine Funktion, die einen String umdreht, in javascript"),
        ("code", "Escribe un programa en rust"),
        ("code", "const add = (a, b) => { return a + b; }; // what is add(1, 2)?"),
        ("math", "Solve 3*x + 4 = 10"),
        ("math", "Was ist die Ableitung von x^2?"),
        ("math", "Démontre le théorème de Pythagore"),
        ("math", "Calcula la probabilidad de sacar dos ases"),
        ("math", r"\frac{1}{2} + \int_0^1 x dx"),
        ("math", "∀ x ∈ ℝ: x² ≥ 0 ?"),
        ("reasoning", "Explain why the Roman empire fell, step by step"),
        ("reasoning", "Vergleiche die Vor- und Nachteile von Zug und Auto"),
        ("reasoning", "Pourquoi le ciel est-il bleu ? Explique étape par étape."),
        ("reasoning", "¿Por qué el cielo es azul? Explica paso a paso."),
        ("long", "Summarise this. " + "The quick brown fox jumps over the lazy dog. " * 200),
    ],
)
def test_classes(kind: str, text: str) -> None:
    assert of(text).kind == kind


def test_harder_requests_are_harder() -> None:
    greeting = of("Hello!")
    program = of("Write a python function that reverses a list")
    system = of("Design a distributed database in rust, prove its invariants and analyze its complexity")
    assert greeting.difficulty < program.difficulty < system.difficulty
    assert str(greeting) == "simple:0.05"


def test_only_the_end_is_looked_at_and_the_length_of_all_counts() -> None:
    text = "```python\ndef f(): pass\n```" + "la " * LONGEST_TEXT
    assert of(text).evidence["code"] == 0
    assert classify("Go on.", characters=50_000).kind == "long"


@given(st.text() | st.text(alphabet="(){}[]`\\$x^+-*/=0123456789 .\n", max_size=2000), st.integers(-5, 10**9))
def test_any_text_gets_a_class_and_a_difficulty_in_its_bounds(text: str, characters: int) -> None:
    found = classify(text, characters=characters)
    assert found.kind in CLASSES
    assert 0 <= found.difficulty <= 1
    assert set(found.evidence) == set(CLASSES)
    assert all(0 <= value <= 1 for value in found.evidence.values())
    assert classify(text, characters=characters) == found


@given(st.text(max_size=200), st.text(max_size=200))
def test_what_stands_before_the_end_that_is_looked_at_changes_nothing(before: str, end: str) -> None:
    """So the work for one request is bounded, however long it is."""
    text = end + "la " * LONGEST_TEXT
    assert classify(before + text, characters=10**6) == classify(text, characters=10**6)


def test_doubt() -> None:
    assert of("Hello!").is_sure
    assert not of("Prove that sqrt 2 is irrational").is_sure
    assert not of("```x = 1``` why?").is_sure


vectors = st.lists(st.floats(-1, 1), min_size=3, max_size=3).filter(lambda v: math.hypot(*v) > 0.1)


@given(st.text(max_size=300), vectors, st.dictionaries(st.sampled_from(CLASSES), st.lists(vectors, max_size=3)))
def test_any_examples_combine_to_a_class_and_a_difficulty_in_its_bounds(
    text: str, vector: list[float], examples: dict[str, list[list[float]]]
) -> None:
    by_rules = of(text)
    near = nearness(vector, examples)  # type: ignore[arg-type]
    assert set(near) == {kind for kind, known in examples.items() if known}
    found = combine(by_rules, near)
    assert found.kind in CLASSES
    assert 0 <= found.difficulty <= 1


def test_examples_decide_what_the_rules_leave_open() -> None:
    unsure = of("Prove that sqrt 2 is irrational")
    near = nearness([1.0, 0.0], {"math": [[0.0, 1.0]], "reasoning": [[1.0, 0.0], [0.0, 1.0]]})
    assert near == {"math": 0.0, "reasoning": 1.0}
    assert unsure.kind == "math"
    assert combine(unsure, near).kind == "reasoning"
    assert combine(unsure, {"math": 0.9, "reasoning": 0.1}).kind == "math"
    assert combine(unsure, {}) is unsure
