"""Which parts of a text are read: all of it while that is cheap, bounded when it is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.moderation.classifier.pieces import MAX_PIECES, MAX_WINDOWS, OVERLAP, PIECE, choose, cut

TEXT = st.text(st.sampled_from("ab .\n!é🙂"), max_size=3_000)


@given(TEXT)
def test_pieces_are_parts_and_none_is_too_long(text: str) -> None:
    pieces = cut(text)
    assert 1 <= len(pieces) <= MAX_PIECES
    assert all(len(piece) <= PIECE and piece in text for piece in pieces)
    assert text.startswith(pieces[0])
    assert text.endswith(pieces[-1])


@given(st.integers(0, 5_000))
def test_every_word_is_read_whole(at: int) -> None:
    filler = "some words of an ordinary text " * 180
    text = f"{filler[:at]} needle {filler[at:]}"
    assert any("needle" in piece.split() for piece in cut(text))


def test_a_huge_text_is_read_in_part_with_both_ends() -> None:
    pieces = cut("beginning " + "word " * 300_000 + "end")
    assert len(pieces) == MAX_PIECES
    assert pieces[0].startswith("beginning")
    assert pieces[-1].endswith("end")


def test_neighbours_share_what_stands_on_a_seam() -> None:
    assert OVERLAP < PIECE
    first, second = cut("x" * (2 * PIECE - OVERLAP))
    assert len(first) == len(second) == PIECE


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60))
def test_the_encoder_reads_both_ends_and_the_worst_between(scores: list[float]) -> None:
    chosen = choose(scores)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(len(scores), MAX_WINDOWS)
    assert {0, len(scores) - 1} <= set(chosen)
    if len(scores) > 2:
        assert max(scores[1:-1]) in {scores[at] for at in chosen}
