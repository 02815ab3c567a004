"""The receipt as a header says what it can within what passes."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from services.conversation.route_convert import route_to_json
from services.conversation.route_header import MAX_LENGTH, route_header
from services.conversation.route_model import Candidate, ExperimentArm, ModelCandidate, RouteReceipt

names = st.text(max_size=30)


@given(names, names, st.integers(0, 400), st.integers(0, 400), st.integers(0, 400))
def test_it_is_one_short_line_of_ascii(model: str, rule: str, candidates: int, models: int, arms: int) -> None:
    receipt = RouteReceipt(
        requested_model=model,
        model=model,
        engine="synthetic",
        replica_id="r1",
        rule=rule,
        candidates=(Candidate(model, "r1", 0.5, 1),) * candidates,
        models=(ModelCandidate(model, 0.5, "tier"),) * models,
        experiments=(ExperimentArm(rule, "a"),) * arms,
    )
    text = route_header(receipt)
    assert len(text) <= MAX_LENGTH
    assert text.isascii()
    assert text.isprintable()
    said = json.loads(text)
    assert said["model"] == model
    whole = route_to_json(receipt)
    assert said["candidates"] == whole["candidates"][: len(said["candidates"])]
    if len(json.dumps(whole, separators=(",", ":"))) <= MAX_LENGTH:
        assert said == whole


def test_even_a_name_that_is_too_long_leaves_a_header() -> None:
    text = route_header(RouteReceipt("m" * 9000, "m" * 9000, "e", "r", "rule"))
    assert json.loads(text) == {"model": "m" * 256}
