"""The stop matcher against what it means: the text before the first stop string."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.engines.stop_strings import StopMatcher

# Few letters, so that stop strings begin, nearly end, and overlap all the time.
letters = st.text("abc", max_size=24)
stop_strings = st.lists(st.text("abc", min_size=1, max_size=5), max_size=4)
cuts = st.lists(st.integers(0, 24), max_size=8)


def pieces_of(text: str, places: Sequence[int]) -> list[str]:
    marks = sorted({0, len(text), *(place for place in places if place < len(text))})
    return [text[a:b] for a, b in pairwise(marks)]


def before_first_stop(text: str, stops: Sequence[str]) -> str:
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


@given(letters, stop_strings, cuts)
def test_however_it_is_cut_the_text_before_the_first_stop_comes_out(
    text: str, stops: list[str], places: list[int]
) -> None:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.feed(piece) for piece in pieces_of(text, places)) + matcher.flush()
    assert shown == before_first_stop(text, stops)
    assert matcher.stopped == (shown != text)


@given(letters, stop_strings, cuts, letters)
def test_what_is_shown_is_never_the_start_of_a_stop_string(
    text: str, stops: list[str], places: list[int], rest: str
) -> None:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.feed(piece) for piece in pieces_of(text, places))
    # Whatever may follow, what was shown stays right.
    assert before_first_stop(text + rest, stops).startswith(shown)


@given(letters, stop_strings)
def test_text_is_held_back_no_longer_than_needed(text: str, stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.feed(letter) for letter in text)
    if not matcher.stopped:
        held = text[len(shown) :]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


@pytest.mark.parametrize(
    ("stops", "pieces", "shown", "stopped"),
    [
        (["END"], ["on", "E", "N", "D", "more"], ["on", "", "", "", ""], True),
        (["END"], ["E", "N", "X"], ["", "", "ENX"], False),
        (["\n\nUser:"], ["Hi.\n", "\nUs", "er: x"], ["Hi.", "", ""], True),
        (["bc", "abcd"], ["ab", "c", "x"], ["", "", "a"], True),
        ([], ["a", "b"], ["a", "b"], False),
    ],
)
def test_piece_by_piece(stops: list[str], pieces: list[str], shown: list[str], stopped: bool) -> None:
    matcher = StopMatcher(stops)
    assert [matcher.feed(piece) for piece in pieces] == shown
    assert matcher.stopped is stopped
