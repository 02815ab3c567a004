"""At most one delta per generation, nothing lost, order kept."""

from __future__ import annotations

from copy import copy

from hypothesis import given
from hypothesis import strategies as st

from services.inference.merging import merge
from services.inference.model import Delta, End, FinishReason

deltas = st.lists(
    st.builds(
        lambda name, text, ids, known: Delta(name, text, ids if known else [], len(ids)),
        st.sampled_from("xyz"),
        st.text("ab", max_size=3),
        st.lists(st.integers(0, 9), max_size=3),
        st.booleans(),
    ),
    max_size=20,
)


@given(deltas)
def test_nothing_is_lost(items: list[Delta]) -> None:
    merged = merge([copy(item) for item in items])
    assert len({delta.generation_id for delta in merged}) == len(merged)
    for delta in merged:
        own = [item for item in items if item.generation_id == delta.generation_id]
        assert delta.text == "".join(item.text for item in own)
        assert delta.token_count == sum(item.token_count for item in own)
        # Text without a token is the rest of one that was told before: no ids are exactly its tokens.
        if all(len(item.token_ids) == item.token_count and (item.token_count or not item.text) for item in own):
            assert delta.token_ids == [token for item in own for token in item.token_ids]
        else:
            assert delta.token_ids == []


def test_the_end_stays_the_end() -> None:
    end = End(FinishReason.STOP)
    (merged,) = merge([Delta("x", "a", [1], 1), Delta("x", "b", [2], 1, end)])
    assert merged == Delta("x", "ab", [1, 2], 2, end)


def test_ids_that_are_shared_are_not_changed() -> None:
    first = Delta("x", "a", [1], 1)
    ids = first.token_ids
    merge([first, Delta("x", "b", [2], 1)])
    assert ids == [1]
