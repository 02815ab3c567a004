"""Vectors as OpenAI's list: as many as may be asked for go into one message."""

from __future__ import annotations

import json

import pytest

from services.conversation.chat_model import TokenUsage
from services.conversation.embedding import Embedded
from services.conversation.openai_embeddings import MAX_BODY_BYTES, MAX_TEXTS, embeddings_json
from services.conversation.route_model import RouteReceipt
from services.runtime.errors import DomainError, Reason

LONGEST = -1.23456789e-05
"""No number of 32 bits is longer."""


def embedded(count: int, dimensions: int) -> Embedded:
    receipt = RouteReceipt("m", "m", "minilm", "r", "model/only")
    return Embedded([[LONGEST] * dimensions] * count, "m", TokenUsage(prompt_tokens=count), receipt)


@pytest.mark.parametrize("as_base64", [False, True])
def test_as_many_texts_as_are_allowed_fit(as_base64: bool) -> None:
    data = embeddings_json(embedded(MAX_TEXTS, 384), as_base64=as_base64)
    assert len(data) <= MAX_BODY_BYTES
    body = json.loads(data)
    assert [item["index"] for item in body["data"]] == list(range(MAX_TEXTS))
    assert body["usage"] == {"prompt_tokens": MAX_TEXTS, "total_tokens": MAX_TEXTS}


def test_what_does_not_fit_is_refused_in_words_and_not_by_the_transport() -> None:
    many = embedded(MAX_TEXTS, 1024)
    with pytest.raises(DomainError, match="base64") as refused:
        embeddings_json(many, as_base64=False)
    assert (refused.value.reason, refused.value.metadata["param"]) == (Reason.INVALID_BODY, "input")
    assert len(embeddings_json(many, as_base64=True)) <= MAX_BODY_BYTES
