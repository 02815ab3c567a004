"""Characters out of bytes that were cut anywhere."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.inference.engines.utf8 import Utf8Assembler


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.integers(0, 100), max_size=10))
def test_the_text_comes_out_whole_however_its_bytes_are_cut(text: str, places: list[int]) -> None:
    data = text.encode()
    marks = sorted({0, len(data), *(place for place in places if place < len(data))})
    assembler = Utf8Assembler()
    out = [assembler.feed(data[a:b]) for a, b in pairwise(marks)]
    assert "".join(out) == text
    # Every character shows as soon as its last byte is there.
    for shown, end in zip(accumulate(out), marks[1:], strict=True):
        assert shown == data[:end].decode(errors="ignore")


def test_a_character_shows_with_its_last_byte() -> None:
    assembler = Utf8Assembler()
    assert [assembler.feed(bytes([byte])) for byte in "a😀b".encode()] == ["a", "", "", "", "😀", "b"]


def test_bytes_that_are_no_character_show_as_such() -> None:
    assembler = Utf8Assembler()
    assert assembler.feed(b"a\xffb") == "a\ufffdb"
