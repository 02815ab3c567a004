"""Request rate and body size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from google.api import httpbody_pb2
from google.protobuf import duration_pb2

from chatmesh.conversation.v1 import conversation_pb2
from chatmesh.usage.v1 import rate_limit_pb2
from tests.contract.edge.conftest import MAX_BODY_BYTES
from tests.contract.edge.fakes import CONVERSATION, Script
from tests.contract.edge.process import Keys, call

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def answer(code: rate_limit_pb2.RateLimitCode) -> rate_limit_pb2.RateLimitResponse:
    over = code == rate_limit_pb2.RATE_LIMIT_CODE_OVER_LIMIT
    return rate_limit_pb2.RateLimitResponse(
        overall_code=code,
        statuses=[
            rate_limit_pb2.RateLimitDescriptorStatus(
                code=code,
                current_limit=rate_limit_pb2.RateLimitQuota(
                    requests_per_unit=3, unit=rate_limit_pb2.RATE_LIMIT_UNIT_MINUTE
                ),
                limit_remaining=0 if over else 2,
                duration_until_reset=duration_pb2.Duration(seconds=7),
            )
        ],
        response_headers_to_add=[rate_limit_pb2.RateLimitHeader(key="retry-after", value="7")] if over else [],
    )


async def over(_request: rate_limit_pb2.RateLimitRequest) -> rate_limit_pb2.RateLimitResponse:
    return await answer(rate_limit_pb2.RATE_LIMIT_CODE_OVER_LIMIT)


async def within(_request: rate_limit_pb2.RateLimitRequest) -> rate_limit_pb2.RateLimitResponse:
    return await answer(rate_limit_pb2.RATE_LIMIT_CODE_OK)


async def empty(_request: object, _context: object) -> object:
    return conversation_pb2.Conversation()


async def listed(_request: object, _context: object) -> object:
    return httpbody_pb2.HttpBody(content_type="application/json", data=b"{}")


def described(script: Script) -> list[list[tuple[str, str]]]:
    return [
        [(entry.key, entry.value) for entry in descriptor.entries]
        for request in script.rate_limit_calls
        for descriptor in request.descriptors
    ]


@pytest.mark.parametrize(
    ("path", "grpc_path", "method", "surface"),
    [
        ("/v1/conversations/c", "/chatmesh.conversation.v1.ConversationService/GetConversation", "", "native"),
        ("/v1/models", "/chatmesh.conversation.v1.OpenAIService/ListModels", "", "openai"),
    ],
)
async def test_each_request_is_counted_once(
    http: httpx.AsyncClient,
    channel: grpc.aio.Channel,
    script: Script,
    keys: Keys,
    path: str,
    grpc_path: str,
    method: str,
    surface: str,
) -> None:
    script.on(grpc_path.rpartition("/")[2], listed if surface == "openai" else empty)
    script.rate_limit = within
    response = await http.get(path, headers=keys.bearer("alice", None))
    assert response.status_code == 200
    assert response.headers["x-ratelimit-limit"] == "3, 3;w=60"
    assert response.headers["x-ratelimit-remaining"] == "2"
    assert response.headers["x-ratelimit-reset"] == "7"
    await call(channel, grpc_path, headers=keys.bearer("bob", "pro"))
    assert described(script) == [
        [("user", "alice"), ("tier", "free"), ("surface", surface)],
        [("user", "bob"), ("tier", "pro"), ("surface", surface)],
    ]


async def test_over_the_limit_over_rest(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    script.rate_limit = over
    response = await http.get("/v1/conversations", headers=keys.bearer())
    assert response.status_code == 429
    assert response.headers["retry-after"] == "7"
    assert response.headers["x-ratelimit-remaining"] == "0"
    body = response.json()
    assert body["code"] == 8
    assert body["details"][0]["reason"] == "RATE_LIMITED"
    assert body["details"][1] == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retry_delay": "7s"}
    assert not script.calls


async def test_over_the_limit_in_openais_shape(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    script.rate_limit = over
    response = await http.post("/v1/chat/completions", headers=keys.bearer(), json={})
    assert response.status_code == 429
    assert response.headers["retry-after"] == "7"
    assert response.json()["error"]["code"] == "rate_limit_exceeded"


async def test_over_the_limit_over_grpc(channel: grpc.aio.Channel, script: Script, keys: Keys) -> None:
    script.rate_limit = over
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, f"/{CONVERSATION}/GetConversation", headers=keys.bearer())
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(caught.value.trailing_metadata())["retry-after"] == "7"


async def test_a_silent_limiter_lets_requests_pass(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    released = asyncio.Event()

    async def silent(_request: rate_limit_pb2.RateLimitRequest) -> rate_limit_pb2.RateLimitResponse:
        await released.wait()
        return await answer(rate_limit_pb2.RATE_LIMIT_CODE_OVER_LIMIT)

    script.on("GetConversation", empty)
    script.rate_limit = silent
    response = await http.get("/v1/conversations/c", headers=keys.bearer())
    released.set()
    assert response.status_code == 200


async def test_unauthenticated_and_health_are_not_counted(http: httpx.AsyncClient, script: Script) -> None:
    await http.get("/healthz")
    await http.get("/v1/conversations")
    await http.get("/nothing")
    assert not script.rate_limit_calls


async def chunks(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 1024):
        yield b" " * 1024


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/chat/completions"])
async def test_a_body_that_is_too_large(
    http: httpx.AsyncClient, script: Script, keys: Keys, path: str, chunked: bool
) -> None:
    # Envoy looks at a body without a length after each read, so a little more than the limit may pass.
    content: Any = chunks(MAX_BODY_BYTES * 2) if chunked else b" " * (MAX_BODY_BYTES + 1)
    response = await http.post(path, headers=keys.bearer(), content=content)
    assert response.status_code == 413
    message = response.json()["error" if "chat" in path else "message"]
    assert str(MAX_BODY_BYTES) in (message["message"] if isinstance(message, dict) else message)
    assert not script.calls


@pytest.mark.parametrize("path", ["/v1/conversations", "/v1/chat/completions"])
async def test_a_body_of_just_the_limit(http: httpx.AsyncClient, script: Script, keys: Keys, path: str) -> None:
    async def body(_request: object, _context: object) -> AsyncIterator[httpbody_pb2.HttpBody]:
        yield httpbody_pb2.HttpBody(content_type="application/json", data=b"{}")

    script.on("CreateConversation" if path == "/v1/conversations" else "CreateChatCompletion",
              empty if path == "/v1/conversations" else body)  # fmt: skip
    content = b'{"title":"' + b"x" * (MAX_BODY_BYTES - 12) + b'"}'
    response = await http.post(path, headers=keys.bearer(), content=content)
    assert response.status_code == 200


async def test_grpc_is_not_bound_by_the_limit_of_rest(channel: grpc.aio.Channel, script: Script, keys: Keys) -> None:
    script.on("CreateConversation", empty)
    large = conversation_pb2.Conversation(title="x" * (MAX_BODY_BYTES * 2)).SerializeToString()
    await call(channel, f"/{CONVERSATION}/CreateConversation", large, headers=keys.bearer())
    assert len(script.calls) == 1
