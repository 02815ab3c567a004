"""Who may call, and what the services are told about them."""

from __future__ import annotations

import time
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from chatmesh.conversation.v1 import conversation_pb2, conversation_service_pb2, conversation_service_pb2_grpc
from tests.contract.edge.fakes import Backend, Script
from tests.contract.edge.process import Keys

pytestmark = pytest.mark.asyncio(loop_scope="session")

SPOOF = {"x-chatmesh-user": "mallory", "X-ChatMesh-Tier": "admin", "x-chatmesh-anything": "1"}


async def conversation(request: conversation_service_pb2.GetConversationRequest, _context: object) -> object:
    return conversation_pb2.Conversation(id=request.conversation_id)


async def test_claims_reach_the_service_and_the_token_does_not(
    http: httpx.AsyncClient, script: Script, keys: Keys
) -> None:
    script.on("GetConversation", conversation)
    response = await http.get("/v1/conversations/c1", headers=keys.bearer("alice", "pro"))
    assert response.status_code == 200
    metadata = script.only_call().metadata
    assert (metadata["x-chatmesh-user"], metadata["x-chatmesh-tier"]) == ("alice", "pro")
    assert "authorization" not in metadata


@pytest.mark.parametrize("tier", ["pro", None])
async def test_spoofed_identity_over_rest_is_gone(
    http: httpx.AsyncClient, script: Script, keys: Keys, tier: str | None
) -> None:
    script.on("GetConversation", conversation)
    response = await http.get("/v1/conversations/c1", headers={**SPOOF, **keys.bearer("alice", tier)})
    assert response.status_code == 200
    metadata = script.only_call().metadata
    assert metadata["x-chatmesh-user"] == "alice"
    assert metadata["x-chatmesh-tier"] == (tier or "free")
    assert "x-chatmesh-anything" not in metadata


async def test_the_tenant_comes_from_the_token_alone(
    http: httpx.AsyncClient, channel: grpc.aio.Channel, script: Script, keys: Keys
) -> None:
    script.on("GetConversation", conversation)
    stub = conversation_service_pb2_grpc.ConversationServiceStub(channel)
    request = conversation_service_pb2.GetConversationRequest(conversation_id="c")
    for claims, tenant in (({"tenant": "acme"}, "acme"), ({}, None)):
        headers = {**keys.bearer("alice", "pro", **claims), "x-chatmesh-tenant": "mallory-inc"}
        assert (await http.get("/v1/conversations/c", headers=headers)).status_code == 200
        await stub.GetConversation(request, metadata=tuple(headers.items()))
        assert [call.metadata.get("x-chatmesh-tenant") for call in script.calls[-2:]] == [tenant, tenant]


async def test_spoofed_identity_over_grpc_is_gone(channel: grpc.aio.Channel, script: Script, keys: Keys) -> None:
    script.on("GetConversation", conversation)
    stub = conversation_service_pb2_grpc.ConversationServiceStub(channel)
    metadata = [(name.lower(), value) for name, value in {**SPOOF, **keys.bearer("alice", None)}.items()]
    await stub.GetConversation(conversation_service_pb2.GetConversationRequest(conversation_id="c"), metadata=metadata)
    seen = script.only_call().metadata
    assert seen["x-chatmesh-user"] == "alice"
    assert seen["x-chatmesh-tier"] == "free"
    assert "x-chatmesh-anything" not in seen


async def test_spoofed_identity_does_not_replace_a_token(channel: grpc.aio.Channel, script: Script) -> None:
    stub = conversation_service_pb2_grpc.ConversationServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetConversation(
            conversation_service_pb2.GetConversationRequest(conversation_id="c"),
            metadata=[(name.lower(), value) for name, value in SPOOF.items()],
        )
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not script.calls


async def test_spoofed_identity_is_gone_where_no_token_is_asked_for(
    channel: grpc.aio.Channel, backend: Backend
) -> None:
    await health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(), metadata=[(name.lower(), value) for name, value in SPOOF.items()]
    )
    seen = next(metadata for metadata in reversed(backend.metadata) if "x-forwarded-for" in metadata)
    assert "x-chatmesh-user" not in seen
    assert "x-chatmesh-anything" not in seen
    assert seen.get("x-chatmesh-tier") != "admin"


@pytest.mark.parametrize(
    ("claims", "word"),
    [
        ({"exp": int(time.time()) - 120}, "expired"),
        ({"exp": None}, "verification"),
        ({"iss": "https://other.test"}, "issuer"),
        ({"aud": "other"}, "udience"),
        ({"user": None}, "verification"),
        ({"user": ""}, "verification"),
        ({"user": "a\nb"}, "verification"),
    ],
)
async def test_refused_tokens(
    http: httpx.AsyncClient, script: Script, keys: Keys, claims: dict[str, Any], word: str
) -> None:
    response = await http.get("/v1/conversations/c1", headers=keys.bearer(**claims))
    assert response.status_code == 401
    body = response.json()
    assert body["code"] == 16
    assert word in body["message"]
    assert body["details"][0]["reason"] == "UNAUTHENTICATED"
    assert not script.calls


@pytest.mark.parametrize("header", [None, "Bearer nonsense", "Basic YTpi", "forged", "unsigned"])
async def test_missing_and_forged_tokens(
    http: httpx.AsyncClient, script: Script, keys: Keys, header: str | None
) -> None:
    if header == "forged":
        header = Keys().bearer()["authorization"]
    if header == "unsigned":
        head, body, _signature = keys.token().split(".")
        header = f"Bearer eyJhbGciOiJub25lIn0.{body}."
        assert head
    response = await http.get("/v1/conversations/c1", headers={"authorization": header} if header else {})
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert "Authorization: Bearer" in response.json()["message"]
    assert not script.calls


async def test_a_token_in_the_query_is_not_taken(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    response = await http.get(f"/v1/conversations/c1?access_token={keys.token()}")
    assert response.status_code == 401
    assert keys.token() not in str(response.headers)
    assert not script.calls


async def test_grpc_callers_get_a_typed_status(channel: grpc.aio.Channel, script: Script) -> None:
    stub = conversation_service_pb2_grpc.ConversationServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetConversation(conversation_service_pb2.GetConversationRequest(conversation_id="c"))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("UNAUTHENTICATED", "chatmesh")
