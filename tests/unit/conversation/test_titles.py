"""What a model says, made a title."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.conversation.titles import MAX_LENGTH, tidy_title


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ("A mesh of services", "A mesh of services"),
        ('"A Mesh."', "A Mesh"),
        ("Title: A mesh", "A mesh"),
        ('"Title: A mesh"', "A mesh"),
        ('Title: "A mesh".', "A mesh"),
        ("## **A mesh**", "A mesh"),
        ("\n\n A   mesh \nand an explanation", "A mesh"),
        ("Titles of nobility", "Titles of nobility"),
        ("“Was ist ein Netz?”", "Was ist ein Netz?"),
        ("", ""),
        (' \n"" ', ""),
    ],
)
def test_tidy(said: str, title: str) -> None:
    assert tidy_title(said) == title


@given(st.text(max_size=300))
def test_it_is_one_line_and_not_too_long(said: str) -> None:
    title = tidy_title(said)
    assert len(title) <= MAX_LENGTH
    assert len(title.splitlines()) <= 1
    assert title == title.strip()


def test_a_long_one_is_cut_at_a_word() -> None:
    title = tidy_title("word " * 30)
    assert title.endswith("word…")
    assert len(title) <= MAX_LENGTH
