"""Which texts are embedded together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.runtime.token_batches import make_batches


@given(st.lists(st.integers(1, 300), max_size=80), st.integers(1, 600))
def test_every_text_is_in_one_batch_and_no_batch_costs_too_much(lengths: list[int], max_tokens: int) -> None:
    batches = make_batches(lengths, max_tokens=max_tokens)
    assert sorted(at for batch in batches for at in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[at] for at in batch) <= max_tokens


def test_texts_of_like_length_go_together() -> None:
    assert make_batches([200, 3, 210, 4], max_tokens=420) == [[1, 3], [0, 2]]
