"""What an engine is told to continue is exactly what was written, however it was cut into pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.conversation.chat_model import GeneratedPiece
from services.conversation.transcript import Transcript
from services.conversation.written_pieces import join_pieces

# Text, ids and the number of tokens: with all ids, or with none of them, or with no text yet.
writes = st.lists(
    st.tuples(st.text("ab🙂", max_size=4), st.integers(0, 3), st.booleans()).filter(lambda each: each[0] or each[1]),
    max_size=20,
)


def written(transcript: Transcript, story: list[tuple[str, int, bool]]) -> tuple[str, int]:
    """Text and tokens of it all; ids count from 1."""
    text, tokens = "", 0
    for more, count, known in story:
        ids = range(tokens + 1, tokens + count + 1) if known else ()
        transcript.write(more, tuple(ids), count)
        text, tokens = text + more, tokens + count
    return text, tokens


@given(writes)
def test_a_continuation_has_all_of_the_text_and_no_wrong_id(story: list[tuple[str, int, bool]]) -> None:
    transcript = Transcript()
    text, tokens = written(transcript, story)
    assert transcript.tokens == tokens
    left = transcript.cut()
    pieces = transcript.continuation()
    assert "".join(piece.text for piece in pieces) == text
    ids = [token_id for piece in pieces for token_id in piece.token_ids]
    assert ids == sorted(set(ids))
    # Tokens that gave no text are generated again; all others are counted.
    assert len(ids) <= left <= tokens
    if all(known for _, _, known in story):
        assert len(ids) == left
        assert ids == list(range(1, left + 1))


@given(writes, st.lists(st.integers(0, 9), max_size=20))
def test_what_is_taken_in_parts_is_the_whole(story: list[tuple[str, int, bool]], cuts: list[int]) -> None:
    transcript = Transcript()
    text, _ = written(transcript, story)
    shown, tokens = 0, 0
    for cut in [*cuts, len(text)]:
        count = min(cut, len(text) - shown)
        taken = transcript.take(count)
        if taken.pieces:
            assert "".join(piece.text for piece in taken.pieces) == text[shown : shown + count]
        tokens += taken.tokens
        shown += count
    assert tokens == transcript.cut()


def test_pieces_are_joined_as_far_as_they_can_be() -> None:
    pieces = [GeneratedPiece("a", (1,)), GeneratedPiece("b", (2, 3)), GeneratedPiece("c"), GeneratedPiece("d")]
    assert join_pieces(pieces) == (GeneratedPiece("ab", (1, 2, 3)), GeneratedPiece("cd"))
    assert join_pieces([]) == ()
