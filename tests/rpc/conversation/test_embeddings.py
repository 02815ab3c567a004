"""Embeddings: checked, reserved and routed side by side, made by a replica or by one other, and counted."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from chatmesh.inference.v1.status_pb2 import CAPABILITY_EMBEDDINGS
from chatmesh.moderation.v1 import moderation_service_pb2, verdict_pb2
from services.runtime.errors import DomainError, Reason
from tests.rpc.conversation.openai_calls import Client, FakeEmbedder, vectors
from tests.rpc.conversation.peers import granted, routed
from tests.rpc.conversation.scripted import Held
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import allowed

pytestmark = pytest.mark.asyncio(loop_scope="session")

ONE, TWO = (0.6, 0.8), (1.0, 0.0)


@pytest_asyncio.fixture(loop_scope="session")
async def embedders() -> AsyncIterator[list[FakeEmbedder]]:
    replicas = [FakeEmbedder("embedder-a"), FakeEmbedder("embedder-b")]
    for replica in replicas:
        await replica.start()
    yield replicas
    for replica in replicas:
        assert (replica.embed.waiting, replica.embed.unexpected) == (0, 0)
        await replica.stop()


def prepare(stage: Stage, *replicas: FakeEmbedder, verdict: Any = None, lease: Any = None) -> None:
    stage.usage.acquire.queue(lease or granted())
    stage.moderation.check_input.queue(verdict or allowed())
    stage.router.route.queue(*(routed(replica.address, replica.replica_id, model="mini") for replica in replicas))


def redacted(text: str) -> moderation_service_pb2.CheckInputResponse:
    verdict = verdict_pb2.Verdict(action=verdict_pb2.ACTION_REDACT, redacted_text=text)
    return moderation_service_pb2.CheckInputResponse(verdict=verdict)


async def test_texts_become_vectors(stage: Stage, embedders: list[FakeEmbedder]) -> None:
    prepare(stage, embedders[0])
    embedders[0].embed.queue(vectors(ONE, TWO))
    made, receipt = await Client(stage.channel).embed(input=["one", "two"], user="u")
    [request] = embedders[0].embed.requests
    assert (request.model, list(request.texts)) == ("mini", ["one", "two"])
    assert [item["index"] for item in made["data"]] == [0, 1]
    assert made["data"][0]["embedding"] == pytest.approx(ONE)
    assert made["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert made["model"] == "mini"
    assert receipt == made["chatmesh"]["route"]
    assert (receipt["replica_id"], receipt["retries"]) == ("embedder-a", 0)
    [route] = stage.router.route.requests
    assert list(route.capabilities) == [CAPABILITY_EMBEDDINGS]
    record = await stage.usage.settled(route.generation_id)
    assert (record.model, record.usage.prompt_tokens, record.usage.completion_tokens) == ("mini", 7, 0)
    [checked] = stage.moderation.check_input.requests
    assert "one" in checked.texts[0]
    assert "two" in checked.texts[0]


async def test_vectors_as_bytes(stage: Stage, embedders: list[FakeEmbedder]) -> None:
    prepare(stage, embedders[0])
    embedders[0].embed.queue(vectors(ONE))
    made, _ = await Client(stage.channel).embed(input="one", encoding_format="base64", dimensions=2)
    assert struct.unpack("<2f", base64.b64decode(made["data"][0]["embedding"])) == pytest.approx(ONE)


async def test_one_other_replica_answers_for_one_that_is_lost(stage: Stage, embedders: list[FakeEmbedder]) -> None:
    first, second = embedders
    prepare(stage, first, second)
    await first.stop()
    second.embed.queue(vectors(ONE))
    _, receipt = await Client(stage.channel).embed(input="one")
    assert (receipt["replica_id"], receipt["retries"]) == ("embedder-b", 1)
    again = stage.router.route.requests[1]
    assert (again.model, list(again.excluded_replica_ids)) == ("mini", ["embedder-a"])
    assert again.failed_replica_id == "embedder-a"
    await first.start()


async def test_two_that_are_lost_are_enough(stage: Stage, embedders: list[FakeEmbedder]) -> None:
    prepare(stage, *embedders)
    for replica in embedders:
        replica.embed.queue(DomainError(Reason.DRAINING, "gone"))
    with pytest.raises(DomainError) as refused:
        await Client(stage.channel).embed(input="one")
    assert refused.value.reason is Reason.DRAINING
    assert stage.usage.granted


async def test_what_is_redacted_is_embedded_as_redacted(stage: Stage, embedders: list[FakeEmbedder]) -> None:
    prepare(stage, embedders[0], verdict=redacted("my [x]\n\x01\ntwo"))
    embedders[0].embed.queue(vectors(ONE, TWO))
    await Client(stage.channel).embed(input=["my key", "two"])
    assert list(embedders[0].embed.requests[0].texts) == ["my [x]", "two"]


async def test_what_cannot_be_taken_apart_is_not_embedded(stage: Stage, embedders: list[FakeEmbedder]) -> None:
    prepare(stage, embedders[0], verdict=redacted("my [x]"))
    with pytest.raises(DomainError) as refused:
        await Client(stage.channel).embed(input=["my key", "two"])
    assert refused.value.reason is Reason.CONTENT_BLOCKED


async def test_a_text_that_is_too_long_is_refused_and_not_cut(stage: Stage, embedders: list[FakeEmbedder]) -> None:
    prepare(stage, embedders[0])
    embedders[0].embed.queue(vectors(ONE, truncated=1))
    with pytest.raises(DomainError) as refused:
        await Client(stage.channel).embed(input="one")
    assert refused.value.reason is Reason.CONTEXT_LENGTH_EXCEEDED


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"input": "x", "encoding": "float"}, "encoding"),
    ],
)
async def test_what_is_not_supported_is_refused_by_name(stage: Stage, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(DomainError) as refused:
        await Client(stage.channel).embed(**fields)
    assert (refused.value.reason, refused.value.metadata["param"]) == (Reason.UNSUPPORTED_PARAMETER, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["x", ""]}, "input.1"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": "x", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
        ({"input": "x", "model": ""}, "model"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(stage: Stage, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(DomainError) as refused:
        await Client(stage.channel).embed(**fields)
    assert (refused.value.reason, refused.value.metadata["param"]) == (Reason.INVALID_BODY, param)


async def test_other_dimensions_than_the_models(stage: Stage, embedders: list[FakeEmbedder]) -> None:
    prepare(stage, embedders[0])
    embedders[0].embed.queue(vectors(ONE))
    with pytest.raises(DomainError) as refused:
        await Client(stage.channel).embed(input="one", dimensions=3)
    assert refused.value.metadata["param"] == "dimensions"


async def test_a_model_that_does_not_embed(stage: Stage) -> None:
    held = [Held() for _ in range(3)]
    for method, call in zip((stage.usage.acquire, stage.moderation.check_input, stage.router.route), held, strict=True):
        method.queue(call)
    asking = asyncio.create_task(Client(stage.channel).embed(input="one", model="small"))
    await asyncio.gather(*(call.called.wait() for call in held))
    metadata = {"model": "small", "capability": "embeddings"}
    held[-1].reply(DomainError(Reason.UNSUPPORTED_CAPABILITY, "no", metadata=metadata))
    with pytest.raises(DomainError) as refused:
        await asking
    assert refused.value.reason is Reason.UNSUPPORTED_PARAMETER
    assert refused.value.metadata["param"] == "model"
    assert "small" in refused.value.message


async def test_floats_are_as_exact_as_bytes_and_not_longer_than_needed(
    stage: Stage, embedders: list[FakeEmbedder]
) -> None:
    numbers = (0.1, -1e-7, 1 / 3, 1.0, 0.0, 3e38)
    exact = [struct.unpack("<f", struct.pack("<f", number))[0] for number in numbers]
    prepare(stage, embedders[0])
    embedders[0].embed.queue(vectors(exact))
    body, _ = await Client(stage.channel).embed(input="one", encoding_format="float")
    [found] = body["data"]
    assert [struct.pack("<f", number) for number in found["embedding"]] == [
        struct.pack("<f", number) for number in numbers
    ]
    assert all(len(json.dumps(number)) <= 15 for number in found["embedding"])
