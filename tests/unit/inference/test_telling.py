"""What is told of an answer: all of its text, and with every part exactly the tokens behind it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from services.inference.engines.telling import Telling, Told, join

# Tokens of few letters, so that stop strings begin, nearly end and overlap all the time; some complete no character.
tokens = st.lists(st.text("abc", max_size=3), max_size=16)
stop_strings = st.lists(st.text("abc", min_size=1, max_size=5), max_size=3)


def tell(texts: Sequence[str], stops: Sequence[str]) -> tuple[list[Told], Told, Telling]:
    """The parts, what came at the end, and who told it. The id of a token is its place."""
    telling = Telling(stops)
    parts = []
    for place, text in enumerate(texts):
        if telling.stopped:
            break
        parts.append(telling.take(text, [place], 1))
    return parts, telling.end(), telling


def before_first_stop(text: str, stops: Sequence[str]) -> str:
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def begun_in(texts: Sequence[str], length: int) -> int:
    """How many tokens have a part in the first `length` characters."""
    place = 0
    while length > 0:
        length -= len(texts[place])
        place += 1
    return place


@given(tokens, stop_strings)
def test_the_text_before_the_first_stop_is_told_and_all_tokens_are_counted(texts: list[str], stops: list[str]) -> None:
    parts, end, telling = tell(texts, stops)
    told = [*parts, end]
    assert "".join(text for text, _, _ in told) == before_first_stop("".join(texts), stops)
    assert sum(count for _, _, count in told) == len(parts)
    assert telling.stopped == (before_first_stop("".join(texts), stops) != "".join(texts))


@given(tokens, stop_strings)
def test_the_count_of_what_was_told_is_that_of_the_tokens_that_have_begun(texts: list[str], stops: list[str]) -> None:
    parts, _, _ = tell(texts, stops)
    length = count = 0
    for text, _, tokens_of_part in parts:
        length += len(text)
        count += tokens_of_part
        assert count == begun_in(texts, length)
        assert tokens_of_part or not text, "no text without a token"


@given(tokens, stop_strings)
def test_ids_are_those_of_exactly_the_tokens_of_the_text(texts: list[str], stops: list[str]) -> None:
    parts, end, _ = tell(texts, stops)
    place = 0
    for text, ids, count in [*parts, end]:
        if ids:
            assert ids == list(range(place, place + count))
            assert "".join(texts[token] for token in ids) == text
        place += count


@given(tokens)
def test_without_stop_strings_all_ids_are_known(texts: list[str]) -> None:
    parts, end, _ = tell(texts, ())
    assert [token for _, ids, _ in [*parts, end] for token in ids] == list(range(len(texts)))
    assert [text for text, _, _ in parts] == texts


@given(tokens, stop_strings, st.text("abc", max_size=4))
def test_the_rest_of_a_token_comes_first_and_is_not_counted(texts: list[str], stops: list[str], rest: str) -> None:
    telling = Telling(stops)
    told = telling.take(rest, [], 0)
    taken = 0
    for text in texts:
        if telling.stopped:
            break
        told = join(told, telling.take(text, [0], 1))
        taken += 1
    text, _, count = join(told, telling.end())
    assert text == before_first_stop(rest + "".join(texts), stops)
    assert count == taken


def test_parts_are_joined() -> None:
    assert join(("a", [1], 1), ("b", [2, 3], 2)) == ("ab", [1, 2, 3], 3)
    assert join(("a", [1], 1), ("b", [], 1)) == ("ab", [], 2)
    assert join(("a", [1], 1), ("b", [], 0)) == ("ab", [], 1), "the text is more than that of the token"
    assert join(("a", [1], 1), ("", [], 0)) == ("a", [1], 1)


def test_text_of_a_token_that_was_told_waits_for_the_next_token() -> None:
    telling = Telling(["aac", "bb"])
    assert telling.take("xaa", [7], 1) == ("x", [], 1)
    # "aa" is free and "b" is held, and the token of "aa" is counted already.
    assert telling.take("b", [8], 1) == ("", [], 0)
    assert telling.take("z", [9], 1) == ("aabz", [], 2)
    assert telling.take("y", [10], 1) == ("y", [10], 1)
