"""REST: what is refused before it reaches a service, and how errors look."""

from __future__ import annotations

from typing import Any

import grpc
import httpx
import pytest

from chatmesh.conversation.v1 import conversation_pb2
from services.runtime.errors import STATUS_DETAILS_KEY, DomainError, Reason, to_status
from tests.contract.edge.fakes import CONVERSATION, Script
from tests.contract.edge.process import Keys, call

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def created(request: Any, _context: object) -> object:
    return conversation_pb2.Conversation(id="new", title=request.title)


@pytest.mark.parametrize("content_type", [None, "application/json", "application/x-www-form-urlencoded", "text/plain"])
async def test_json_is_read_whatever_it_is_called(
    http: httpx.AsyncClient, script: Script, keys: Keys, content_type: str | None
) -> None:
    script.on("CreateConversation", created)
    headers = keys.bearer() | ({"content-type": content_type} if content_type else {})
    response = await http.post("/v1/conversations", headers=headers, content=b'{"title": "T"}')
    assert response.json()["title"] == "T"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b'{"title":', "Unexpected end"),
        (b"title=T", "Unexpected token"),
        (b"[1]", "Root element"),
        (b'{"title": {"a": 1}}', "title"),
        (b'{"title": 5e}', "number"),
    ],
)
async def test_bad_bodies(http: httpx.AsyncClient, script: Script, keys: Keys, body: bytes, word: str) -> None:
    response = await http.post("/v1/conversations", headers=keys.bearer(), content=body)
    assert response.status_code == 400
    error = response.json()
    assert error["code"] == 3
    assert error["details"][0]["reason"] == "INVALID_REQUEST"
    assert word.lower() in error["message"].lower()


async def test_an_unknown_query_parameter_is_named(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    response = await http.get("/v1/conversations?page_sise=3", headers=keys.bearer())
    assert response.status_code == 400
    assert "page_sise" in response.json()["message"]
    assert not script.calls


async def test_a_query_parameter_of_the_wrong_type(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    response = await http.get("/v1/conversations?page_size=many", headers=keys.bearer())
    assert response.status_code == 400
    assert "page_size" in response.json()["message"]


@pytest.mark.parametrize(("method", "path"), [("PUT", "/v1/conversations"), ("GET", "/v1/nothing"), ("GET", "/v1/")])
async def test_unknown_routes(http: httpx.AsyncClient, script: Script, keys: Keys, method: str, path: str) -> None:
    response = await http.request(method, path, headers=keys.bearer())
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/json"
    assert f"{method} {path}" in response.json()["message"]


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.INVALID_FIELD, 400),
        (Reason.CONVERSATION_NOT_FOUND, 404),
        (Reason.MODEL_NOT_ALLOWED, 403),
        (Reason.REQUEST_ID_REUSED, 409),
        (Reason.CONVERSATION_BUSY, 400),
        (Reason.QUOTA_EXCEEDED, 429),
        (Reason.INTERNAL, 500),
        (Reason.NO_REPLICA, 503),
        (Reason.DEADLINE_EXCEEDED, 504),
    ],
)
@pytest.mark.parametrize("method", ["GetConversation", "StreamMessage"])
async def test_errors_of_a_service_become_real_statuses_with_details(
    http: httpx.AsyncClient, script: Script, keys: Keys, reason: Reason, status: int, method: str
) -> None:
    error = DomainError(reason, 'no "such" thing\n\u2713', metadata={"conversation_id": "c1"}, retry_after_s=3)

    async def fail(context: Any) -> None:
        wire = to_status(error)
        context.set_trailing_metadata(((STATUS_DETAILS_KEY, wire.SerializeToString()), ("retry-after", "3")))
        await context.abort(error.code, error.message)

    async def unary(_request: object, context: Any) -> None:
        await fail(context)

    async def stream(_request: object, context: Any) -> Any:
        await fail(context)
        yield

    script.on(method, unary if method == "GetConversation" else stream)
    if method == "GetConversation":
        response = await http.get("/v1/conversations/c1", headers=keys.bearer())
    else:
        response = await http.post("/v1/conversations/c1/messages:stream", headers=keys.bearer(), json={})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.headers["retry-after"] == "3"
    body = response.json()
    assert body["code"] == error.code.value[0]
    assert body["message"] == error.message
    info = next(detail for detail in body["details"] if detail["@type"].endswith("ErrorInfo"))
    assert info["reason"] == reason.value
    assert info["metadata"] == {"conversation_id": "c1"}
    retry = next(detail for detail in body["details"] if detail["@type"].endswith("RetryInfo"))
    assert retry["retry_delay"] == "3s"


async def test_metadata_that_a_service_sees(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    script.on("CreateConversation", created)
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    response = await http.post(
        "/v1/conversations",
        headers={**keys.bearer(), "traceparent": traceparent, "x-request-id": "mine", "x-envoy-original-path": "/evil"},
        json={},
    )
    metadata = script.only_call().metadata
    assert metadata["traceparent"] == traceparent
    assert metadata["x-request-id"] == response.headers["x-request-id"] != "mine"
    assert metadata["x-envoy-original-path"] == "/v1/conversations"
    assert metadata["x-envoy-original-method"] == "POST"


async def test_a_large_answer_passes(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    async def large(_request: object, _context: object) -> object:
        return conversation_pb2.Conversation(system_prompt="x" * 3_000_000)

    script.on("GetConversation", large)
    response = await http.get("/v1/conversations/c1", headers=keys.bearer())
    assert len(response.json()["system_prompt"]) == 3_000_000


async def test_unavailable_is_not_the_edges_word_over_the_services(
    channel: grpc.aio.Channel, script: Script, keys: Keys
) -> None:
    async def fail(_request: object, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the service's own")

    script.on("ListConversations", fail)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, f"/{CONVERSATION}/ListConversations", headers=keys.bearer())
    assert caught.value.details() == "the service's own"
    assert len(script.calls) == 1
