"""The OpenAI-compatible paths, as OpenAI's own SDK sees them."""

from __future__ import annotations

import base64
import json
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import openai
import pytest
import pytest_asyncio
from google.api import httpbody_pb2

from tests.contract.edge.fakes import Script
from tests.contract.edge.process import Edge, Keys, call

pytestmark = pytest.mark.asyncio(loop_scope="session")

ERROR = {
    "error": {"message": 'no model "\u00e9" \u2713', "type": "invalid_request_error", "param": "model", "code": "x"}
}


@pytest_asyncio.fixture(loop_scope="session")
async def client(edge: Edge, keys: Keys) -> AsyncIterator[openai.AsyncOpenAI]:
    async with _client(edge, keys.token()) as client:
        yield client


def _client(edge: Edge, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{edge.url}/v1", api_key=key, max_retries=0)


async def refuse(_request: object, context: Any) -> None:
    context.set_trailing_metadata((("x-chatmesh-openai-error", json.dumps(ERROR)), ("retry-after", "5")))
    await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")


async def refuse_stream(request: object, context: Any) -> AsyncIterator[httpbody_pb2.HttpBody]:
    await refuse(request, context)
    yield httpbody_pb2.HttpBody()


async def test_one_json_answer(client: openai.AsyncOpenAI, script: Script) -> None:
    async def answer(_request: object, _context: object) -> AsyncIterator[httpbody_pb2.HttpBody]:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}
        body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        yield httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(body).encode())

    script.on("CreateChatCompletion", answer)
    done = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert done.choices[0].message.content == "hello"
    assert json.loads(script.only_call().request.data)["messages"] == [{"role": "user", "content": "hi"}]


async def test_a_stream_of_chunks(client: openai.AsyncOpenAI, script: Script) -> None:
    async def answer(_request: object, _context: object) -> AsyncIterator[httpbody_pb2.HttpBody]:
        for text in ("he", "llo"):
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            chunk |= {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
            data = f"data: {json.dumps(chunk)}\n\n".encode()
            yield httpbody_pb2.HttpBody(content_type="text/event-stream", data=data)
        yield httpbody_pb2.HttpBody(data=b"data: [DONE]\n\n")

    script.on("CreateChatCompletion", answer)
    stream = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
    assert [chunk.choices[0].delta.content async for chunk in stream] == ["he", "llo"]


async def test_the_route_of_an_answer_is_a_header_that_pages_may_read(
    client: openai.AsyncOpenAI, http: httpx.AsyncClient, script: Script, keys: Keys
) -> None:
    receipt = json.dumps({"model": "m", "candidates": [["m", "r", 0.5, 1, "", ""]] * 100}, separators=(",", ":"))

    async def answer(_request: object, context: Any) -> AsyncIterator[httpbody_pb2.HttpBody]:
        await context.send_initial_metadata((("x-chatmesh-route", receipt),))
        yield httpbody_pb2.HttpBody(content_type="text/event-stream", data=b"data: [DONE]\n\n")

    script.on("CreateChatCompletion", answer)
    response = await http.post(
        "/v1/chat/completions",
        json={"model": "m", "stream": True},
        headers={**keys.bearer(), "origin": "https://chat.test", "x-chatmesh-route": "forged"},
    )
    assert response.headers["x-chatmesh-route"] == receipt
    assert "x-chatmesh-route" not in script.only_call().metadata
    raw = await client.chat.completions.with_raw_response.create(model="m", messages=[], stream=True)
    assert json.loads(raw.headers["x-chatmesh-route"])["model"] == "m"


async def test_embeddings(client: openai.AsyncOpenAI, script: Script) -> None:
    async def embed(request: Any, context: Any) -> httpbody_pb2.HttpBody:
        assert json.loads(request.data)["encoding_format"] == "base64"
        await context.send_initial_metadata((("x-chatmesh-route", "{}"),))
        data = [{"object": "embedding", "index": 0, "embedding": base64.b64encode(struct.pack("<2f", 0.5, 2)).decode()}]
        body = {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        return httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(body).encode())

    script.on("CreateEmbedding", embed)
    raw = await client.embeddings.with_raw_response.create(model="m", input="hi")
    assert raw.headers["x-chatmesh-route"] == "{}"
    assert raw.parse().data[0].embedding == [0.5, 2]


async def test_an_error_of_embeddings_keeps_openais_shape(client: openai.AsyncOpenAI, script: Script) -> None:
    script.on("CreateEmbedding", refuse)
    with pytest.raises(openai.NotFoundError) as caught:
        await client.embeddings.create(model="m", input="hi")
    assert caught.value.body == ERROR["error"]


async def test_moderations(client: openai.AsyncOpenAI, script: Script) -> None:
    async def moderate(request: Any, _context: Any) -> httpbody_pb2.HttpBody:
        assert json.loads(request.data) == {"input": ["hi"], "model": "omni-moderation-latest"}
        found = {"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.9}}
        body = {"id": "modr-1", "model": "m", "results": [found]}
        return httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(body).encode())

    script.on("CreateModeration", moderate)
    [result] = (await client.moderations.create(model="omni-moderation-latest", input=["hi"])).results
    assert (result.flagged, result.categories.hate, result.category_scores.hate) == (True, True, 0.9)


async def test_an_error_of_moderations_keeps_openais_shape(client: openai.AsyncOpenAI, script: Script) -> None:
    script.on("CreateModeration", refuse)
    with pytest.raises(openai.NotFoundError) as caught:
        await client.moderations.create(model="m", input="hi")
    assert caught.value.body == ERROR["error"]


async def test_a_model_with_a_slash_in_its_name(client: openai.AsyncOpenAI, script: Script) -> None:
    async def model(request: Any, _context: object) -> httpbody_pb2.HttpBody:
        body = {"id": request.model, "object": "model", "created": 1, "owned_by": "x"}
        return httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(body).encode())

    script.on("GetModel", model)
    assert (await client.models.retrieve("org/name")).id == "org/name"
    response = await client.get("/models/org%2Fname", cast_to=httpx.Response)
    assert response.json()["id"] == "org/name"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_the_service_keeps_openais_shape(
    client: openai.AsyncOpenAI, script: Script, stream: bool
) -> None:
    script.on("CreateChatCompletion", refuse_stream)
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="m", messages=[], stream=stream)
    assert caught.value.body == ERROR["error"]
    headers = caught.value.response.headers
    assert headers["content-type"] == "application/json"
    assert headers["retry-after"] == "5"
    assert not [name for name in headers if name.startswith("x-chatmesh")]


async def test_an_error_of_a_unary_method_too(client: openai.AsyncOpenAI, script: Script) -> None:
    script.on("GetModel", refuse)
    with pytest.raises(openai.NotFoundError) as caught:
        await client.models.retrieve("m")
    assert (caught.value.code, caught.value.param) == ("x", "model")


@pytest.mark.parametrize("claims", [{"exp": int(time.time()) - 120}, {"aud": "other"}, {"user": None}])
async def test_a_bad_key(edge: Edge, keys: Keys, script: Script, claims: dict[str, Any]) -> None:
    async with _client(edge, keys.token(**claims)) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.models.list()
    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "invalid_request_error")
    assert not script.calls


async def test_an_unknown_path_in_openais_shape(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await client.post("/moderations/batch", body={"input": "x"}, cast_to=httpx.Response)
    assert caught.value.code == "unknown_url"
    assert "POST /v1/moderations/batch" in caught.value.message


async def test_an_unknown_query_parameter_in_openais_shape(http: httpx.AsyncClient, keys: Keys) -> None:
    response = await http.get("/v1/models?limit=3", headers=keys.bearer())
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert "limit" in response.json()["error"]["message"]


async def test_native_grpc_callers_keep_status_and_metadata(
    channel: grpc.aio.Channel, script: Script, keys: Keys
) -> None:
    script.on("GetModel", refuse)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, "/chatmesh.conversation.v1.OpenAIService/GetModel", headers=keys.bearer())
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "no such model"
    assert json.loads(dict(caught.value.trailing_metadata())["x-chatmesh-openai-error"]) == ERROR
