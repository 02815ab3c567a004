"""The query of a search, and the place of a text that is shown for it."""

from __future__ import annotations

import hashlib
import unicodedata
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.conversation.search_query import SEPARATORS, WORD, parse_query
from services.conversation.snippets import ELLIPSIS, LENGTH, snippet
from services.runtime.errors import DomainError, Reason

SIGNS = st.sampled_from("abcABCßéÉпПकि12 .,-'\\\n_“你")
WORDS = st.text(SIGNS, max_size=12)


def shown(text: str, query: str) -> str:
    """The snippet, with what is highlighted in brackets."""
    found, ranges = snippet(text, parse_query(query).matches)
    for start, end in reversed(ranges):
        found = f"{found[:start]}[{found[start:end]}]{found[end:]}"
    return found


def test_a_short_text_is_shown_whole_on_one_line() -> None:
    assert shown("Bring milk,\n\n eggs and MILKSHAKES.", "eggs milk") == "Bring [milk], [eggs] and [MILKSHAKES]."
    assert shown("Bring milk and milkshakes.", "milk eggs") == "Bring [milk] and milkshakes."


def test_a_long_text_is_cut_between_words_around_the_first_hit() -> None:
    text = "before " * 50 + "needle " + "after " * 50 + "needle"
    found = shown(text, "needle")
    assert found.startswith("…before before")
    assert found.endswith("after after…")
    assert found.count("[needle]") == 1
    assert len(found) <= LENGTH + len("……[]")


def test_at_the_end_of_a_text_more_is_shown_of_what_stands_before() -> None:
    found = shown("before " * 50 + "needle", "needle")
    assert found.startswith("…before")
    assert found.endswith("before [needle]")
    assert len(found) > LENGTH - len("before ")


def test_text_without_spaces_is_cut_all_the_same() -> None:
    found = shown("你" * 300 + ",needle," + "好" * 300, "needle")
    assert found.startswith("…你")
    assert found.endswith("好…")
    assert ",[needle]," in found
    assert len(found) == LENGTH + len("……[]")


def test_a_part_of_a_word_that_is_cut_is_no_hit() -> None:
    # Without spaces the window begins and ends within long words. What is left of these would be a hit of its own.
    text = f"{'x' * 300}needle,{'y' * 52},needle,{'y' * 86},needle{'x' * 300}"
    assert shown(text, "needle q") == f"…needle,{'y' * 52},[needle],{'y' * 86},needle…"


def test_a_text_without_the_words_shows_its_beginning() -> None:
    assert shown("one two " * 100, "three").startswith("one two")
    assert shown("one two " * 100, "three").endswith("two…")
    assert shown("", "three") == ""


def test_words_are_found_in_any_case_and_script() -> None:
    assert shown("Straße ПРИВЕТ, हिन्दी!", "STRASSE привет हि") == "[Straße] [ПРИВЕТ], [हिन्दी]!"
    assert shown("see os.path.join here", "os.path.jo") == "see [os].[path].[join] here"


def test_the_last_word_may_be_a_beginning_and_the_others_not() -> None:
    query = parse_query("New yor")
    assert [query.matches(word) for word in ("new", "NEW", "newer", "York", "Yo")] == [True, True, False, True, False]


def test_the_database_is_asked_for_the_words_of_one_user_only() -> None:
    query = parse_query("it's ++ a\\b & 'x' | New-Yor ++ ²")
    assert (query.whole, query.last) == (("it", "s", "a", "b", "x", "New"), "Yor")
    sign = hashlib.md5(b"alice", usedforsecurity=False).hexdigest()[:8]
    assert parse_query("it's Yor").of_user("alice") == f"('{sign}it') & ('{sign}s') & ('{sign}Yor':*)"
    assert parse_query("Été").of_user("alice") == f"('{sign}Été':* | '{sign}été':* | '{sign}ÉTÉ':*)"


def test_the_database_and_the_query_divide_texts_in_the_same_way() -> None:
    folder = resources.files("services.conversation") / "migrations"
    migration = (folder / "0002_tree_and_survival.sql").read_text(encoding="utf-8")
    assert migration.count(f"E'[{SEPARATORS}]+'") == migration.count(" search TSVECTOR") == 2


@pytest.mark.parametrize("text", ["...", "++ --", "\0", "²", "😀", "_"])
def test_a_query_without_a_word_is_refused(text: str) -> None:
    with pytest.raises(DomainError) as caught:
        parse_query(text)
    assert caught.value.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in caught.value.fields] == ["query"]


def test_letters_and_digits_are_of_words_and_punctuation_stands_between_them() -> None:
    for sign in map(chr, range(1, 0x20000)):
        kind = unicodedata.category(sign)
        if kind[0] == "L" or kind == "Nd":
            assert WORD.fullmatch(sign), hex(ord(sign))
        elif kind in ("Cc", "Pi", "Pf", "Zs", "Zl", "Zp") or (sign.isascii() and not sign.isalnum()):
            assert not WORD.fullmatch(sign), hex(ord(sign))
    assert WORD.findall("一、二。「三」🙂四…五·六") == ["一", "二", "三", "四", "五", "六"]


@given(st.lists(WORDS).map(" ".join) | st.text(SIGNS, min_size=150, max_size=700), st.lists(WORDS, max_size=3))
def test_what_is_highlighted_is_a_word_of_the_query(text: str, words: list[str]) -> None:
    query = parse_query(" ".join([*words, "ab"]))
    found, ranges = snippet(text, query.matches)
    line = " ".join(text.split())
    shown_text = found.removeprefix(ELLIPSIS).removesuffix(ELLIPSIS)
    assert shown_text in line
    assert (found == line) == (len(line) <= len(shown_text))
    longest = max((len(word) for word in WORD.findall(line)), default=0)
    assert len(shown_text) <= LENGTH + longest
    last = 0
    for start, end in ranges:
        assert last <= start < end <= len(found)
        folded = found[start:end].casefold()
        assert folded in query.words or folded.startswith("ab")
        last = end
    # Where there is a hit, it is shown.
    assert bool(ranges) == any(query.matches(word) for word in WORD.findall(line))
