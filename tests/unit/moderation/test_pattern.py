from __future__ import annotations

import re

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from services.moderation.rules.pattern import PatternError, parse_pattern


@pytest.mark.parametrize(
    ("pattern", "longest"),
    [
        ("abc", 3),
        ("a?b{2,3}", 4),
        ("(?:ab|c)d", 3),
        ("a+b", None),
        (r"[\]a-z][^]x]", 2),
        (r"[[:alpha:]]\x{e9}\pL\.", 4),
        (r"\bword\b", 4),
        ("héllo", 5),
        ("", 0),
    ],
)
def test_understands(pattern: str, longest: int | None) -> None:
    assert parse_pattern(pattern).max_length == longest


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("a(b", "'(' without ')'"),
        ("a)b", "')' without '('"),
        ("[ab", "']' is missing"),
        ("^a", "'^' cannot be used"),
        ("a$", "'$' cannot be used"),
        ("(?i)a", "'(?'"),
        ("(?=a)", "'(?'"),
        ("a*?", "cannot be lazy"),
        ("*a", "nothing to repeat"),
        ("a{2", "a repeat is"),
        ("a{3,2}", "at least 3 and at most 2"),
        (r"\b+", "cannot be repeated"),
        (r"\A", "not known here"),
        ("a\\", "nothing follows"),
    ],
)
def test_refuses_what_it_cannot_decide(pattern: str, reason: str) -> None:
    with pytest.raises(PatternError, match=re.escape(reason)):
        parse_pattern(pattern)


def _patterns() -> st.SearchStrategy[str]:
    atoms = st.sampled_from(["a", "b", "[ab]", "c", "."])
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3).map("".join),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
            st.tuples(inner, st.sampled_from(["?", "*", "+", "{2}", "{1,2}", "{0,3}", "{2,}"])).map(
                lambda pair: f"(?:{pair[0]}){pair[1]}"
            ),
        ),
        max_leaves=6,
    )


@given(pattern=_patterns(), text=st.text(alphabet="abc", max_size=6), more=st.text(alphabet="abc", max_size=4))
def test_every_beginning_of_a_match_is_one(pattern: str, text: str, more: str) -> None:
    parsed = parse_pattern(pattern)
    whole = text + more
    if re2.fullmatch(parsed.source, whole):
        assert re2.fullmatch(parsed.beginnings, text), (parsed, text)
        assert parsed.min_length <= len(whole)
        assert parsed.max_length is None or len(whole) <= parsed.max_length


@given(pattern=_patterns(), text=st.text(alphabet="abc", max_size=3))
def test_nothing_else_is_a_beginning(pattern: str, text: str) -> None:
    parsed = parse_pattern(pattern)
    if re2.fullmatch(parsed.beginnings, text):
        alphabet = ["a", "b", "c"]
        found = reached = [text]
        for _ in range(7):
            reached = [f"{start}{letter}" for start in reached for letter in alphabet][:400]
            found = found + reached
        # The search is cut off, so only patterns whose matches are short can be judged.
        if parsed.max_length is not None and parsed.max_length <= len(text) + 5:
            assert any(re2.fullmatch(parsed.source, candidate) for candidate in found), (parsed, text)
