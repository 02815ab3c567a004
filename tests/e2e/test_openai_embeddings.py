"""Embeddings of a real model, through OpenAI's own SDK."""

from __future__ import annotations

import json
import math

import httpx
import openai
import pytest

from tests.e2e.conftest import Sdk
from tests.mesh_process import MeshProcess, eventually

MODEL = "all-minilm-l6-v2"
DIMENSIONS = 384


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_texts_of_like_meaning_are_near(sdk: Sdk) -> None:
    made = sdk().embeddings.create(
        model=MODEL, input=["A cat sits on the mat.", "A kitten rests on a rug.", "Shares fell sharply on Monday."]
    )
    cat, kitten, shares = (item.embedding for item in made.data)
    assert [item.index for item in made.data] == [0, 1, 2]
    assert all(len(vector) == DIMENSIONS for vector in (cat, kitten, shares))
    assert math.isclose(cosine(cat, cat), 1, abs_tol=1e-3)
    assert cosine(cat, kitten) > cosine(cat, shares) + 0.2
    assert made.model == MODEL
    assert made.usage.prompt_tokens == made.usage.total_tokens > 15


def test_floats_and_bytes_are_the_same_vector(sdk: Sdk) -> None:
    client = sdk()
    # The SDK asks for bytes by itself and decodes them.
    [decoded] = client.embeddings.create(model=MODEL, input="hello").data
    [floats] = client.embeddings.create(
        model=MODEL, input="hello", encoding_format="float", dimensions=DIMENSIONS, user="u"
    ).data
    assert decoded.embedding == pytest.approx(floats.embedding, abs=1e-6)


def test_what_they_take_is_counted(mesh: MeshProcess, sdk: Sdk) -> None:
    client = sdk()
    made = client.embeddings.with_raw_response.create(model=MODEL, input="one two three")
    assert json.loads(made.headers["x-chatmesh-route"])["model"] == MODEL
    headers = {"authorization": f"Bearer {client.api_key}"}
    [day] = eventually(lambda: httpx.get(f"{mesh.url}/v1/usage", headers=headers).json()["daily"], bool)
    assert (day["model"], int(day["prompt_tokens"])) == (MODEL, made.parse().usage.prompt_tokens)


def test_what_cannot_be_embedded(sdk: Sdk) -> None:
    client = sdk()
    for model, text, options, param in (
        (MODEL, "x", {"dimensions": 10}, "dimensions"),
        (MODEL, [1, 2], {}, "input"),
        (MODEL, "", {}, "input"),
        ("smollm2-135m", "x", {}, "model"),
        (MODEL, "x", {"truncate": True}, "truncate"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.embeddings.create(model=model, input=text, extra_body=options)
        assert refused.value.param == param
    with pytest.raises(openai.BadRequestError) as blocked:
        client.embeddings.create(model=MODEL, input=["fine", "CHATMESH-TEST-BLOCK-7f3a"])
    assert blocked.value.code == "content_policy_violation"
    with pytest.raises(openai.BadRequestError) as long:
        client.embeddings.create(model=MODEL, input="word " * 2000)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="text-embedding-9", input="x")
    assert missing.value.code == "model_not_found"


def test_models_say_what_they_can_do(sdk: Sdk) -> None:
    client = sdk()
    embedder = client.models.retrieve(MODEL).model_dump()["chatmesh"]
    assert embedder["capabilities"] == ["embeddings"]
    chat = client.models.retrieve("smollm2-135m").model_dump()["chatmesh"]
    assert {"chat", "tools", "json", "logprobs"} <= set(chat["capabilities"])
    assert chat["context_length"] == 2048
    assert client.models.retrieve("auto").model_dump()["chatmesh"]["models"] == ["smollm2-135m"]
