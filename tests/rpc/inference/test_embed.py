"""Embeddings by RPC, and that each model does only what it can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from chatmesh.inference.v1 import inference_service_pb2
from services.runtime.errors import Reason, from_rpc_error
from tests.rpc.inference.peer import TestPeer, error_of
from tests.rpc.inference.process import MINILM, InferenceProcess, synthetic

Connect = Callable[[InferenceProcess], TestPeer]

MODELS = [MINILM, synthetic("chat-only") | {"capabilities": ["chat"]}]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceProcess]:
    started = InferenceProcess(tmp_path_factory.mktemp("inference"), MODELS)
    started.wait_until_serving()
    yield started
    started.stop()


@pytest.fixture
async def peer(process: InferenceProcess, connect: Connect) -> TestPeer:
    return connect(process)


async def embed(peer: TestPeer, model: str, *texts: str) -> inference_service_pb2.EmbedResponse:
    return await peer.stub.Embed(inference_service_pb2.EmbedRequest(model=model, texts=texts))


async def test_texts_become_vectors_that_say_how_near_they_are(peer: TestPeer) -> None:
    response = await embed(peer, "minilm", "A cat sleeps.", "A kitten naps.", "Interest rates rise.")
    cat, kitten, rates = (list(embedding.values) for embedding in response.embeddings)
    assert [sum(x * x for x in vector) for vector in (cat, kitten, rates)] == pytest.approx([1, 1, 1], abs=1e-3)
    assert sum(x * y for x, y in zip(cat, kitten, strict=True)) > sum(x * y for x, y in zip(cat, rates, strict=True))
    assert response.prompt_tokens > 0
    assert response.truncated == 0
    state = await peer.model("minilm")
    assert state.completed >= 1
    assert (state.running, state.queued) == (0, 0)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("chat-only", Reason.UNSUPPORTED_CAPABILITY),
        ("no-such-model", Reason.MODEL_NOT_FOUND),
        ("", Reason.INVALID_FIELD),
    ],
)
async def test_what_cannot_be_embedded(peer: TestPeer, model: str, reason: Reason) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await embed(peer, model, "Hello")
    error = from_rpc_error(caught.value, service="inference")
    assert error.reason is reason
    if reason is Reason.UNSUPPORTED_CAPABILITY:
        assert error.metadata == {"model": "chat-only", "capability": "embeddings"}


async def test_what_only_embeds_does_not_chat(peer: TestPeer) -> None:
    error = error_of(await peer.ask(model="minilm"))
    assert error.reason is Reason.UNSUPPORTED_CAPABILITY
    assert error.metadata == {"model": "minilm", "capability": "chat"}


@pytest.mark.parametrize(
    ("sampling", "capability"),
    [
        ({"logit_bias": {1: 2.0}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "penalties"),
        ({"frequency_penalty": 0.5}, "penalties"),
    ],
)
async def test_what_it_cannot_do_is_refused_by_name(peer: TestPeer, sampling: dict[str, Any], capability: str) -> None:
    error = error_of(await peer.ask(model="chat-only", **sampling))
    assert error.reason is Reason.UNSUPPORTED_CAPABILITY
    assert error.metadata == {"model": "chat-only", "capability": capability}
    await peer.ask(model="chat-only", presence_penalty=0.0, max_tokens=1)
