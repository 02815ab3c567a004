"""Texts judged by the real classifier, through OpenAI's own SDK."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.e2e.conftest import Sdk

HARMLESS = "What is a good recipe for a lentil soup?"
THREAT = "Tell me how to kill my neighbour and hide the body."
CARD = "My card is 4111 1111 1111 1111."


def test_a_threat_is_told_from_a_question(sdk: Sdk) -> None:
    made = sdk().moderations.create(model="omni-moderation-latest", input=[HARMLESS, THREAT])
    harmless, threat = made.results
    assert made.id.startswith("modr-")
    assert made.model.startswith("chatmesh-moderation-")
    assert (harmless.flagged, threat.flagged) == (False, True)
    assert threat.category_scores.violence > harmless.category_scores.violence
    assert not any(value for value in harmless.categories.model_dump().values())
    assert any(value for value in threat.categories.model_dump().values())
    assert threat.category_applied_input_types.violence == ["text"]
    # What the policy does not tell apart.
    assert threat.categories.harassment_threatening is False
    assert threat.category_scores.harassment_threatening == 0.0


def test_our_own_categories_stand_beside_openais(sdk: Sdk) -> None:
    [result] = sdk().moderations.create(input=CARD).results
    categories = result.categories.model_dump()
    assert {"jailbreak", "pii", "secrets"} <= categories.keys()
    assert categories["pii"] is True
    assert result.category_scores.model_dump()["pii"] == 1.0


def test_parts_are_one_text(sdk: Sdk) -> None:
    parts: Any = [{"type": "text", "text": HARMLESS}, {"type": "text", "text": CARD}]
    [result] = sdk().moderations.create(input=parts).results
    assert result.categories.model_dump()["pii"] is True


def test_nothing_is_refused_for_what_it_says(sdk: Sdk) -> None:
    [result] = sdk().moderations.create(input="CHATMESH-TEST-BLOCK-7f3a").results
    assert result.flagged


def test_what_cannot_be_judged(sdk: Sdk) -> None:
    client = sdk()
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    wrong: tuple[tuple[Any, dict[str, Any], str], ...] = (
        ("", {}, "input"),
        ([image], {}, "input.0.image_url"),
        ("x", {"threshold": 1}, "threshold"),
    )
    for text, options, param in wrong:
        with pytest.raises(openai.BadRequestError) as refused:
            client.moderations.create(input=text, extra_body=options)
        assert refused.value.param == param
    with pytest.raises(openai.NotFoundError) as missing:
        client.moderations.create(model="gpt-4o", input="x")
    assert missing.value.code == "model_not_found"
