"""What engines tell, as messages."""

from __future__ import annotations

import pytest

from services.inference.convert import to_generate_response
from services.inference.model import Delta, TokenLogprob, ToolCallDelta


@pytest.mark.parametrize(
    ("text", "told"),
    [("caf\u00e9 \U0001f600", "caf\u00e9 \U0001f600"), ("a\ud83db", "a\ufffdb"), ("\ud83d\ude00", "\U0001f600")],
)
def test_half_a_character_does_not_break_the_stream_of_all(text: str, told: str) -> None:
    delta = Delta(
        "g",
        text,
        [],
        1,
        logprobs=[TokenLogprob(text, b"", -1.0)],
        tool_calls=[ToolCallDelta(0, text, text, text)],
    )
    response = to_generate_response([delta, Delta("other", "fine", [], 1)])
    first, other = response.deltas
    call = first.tool_calls[0]
    assert {first.text, first.logprobs[0].token, call.id, call.name, call.arguments} == {told}
    assert other.text == "fine"
