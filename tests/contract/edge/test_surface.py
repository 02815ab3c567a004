"""What the one port offers, and what it does not."""

from __future__ import annotations

import struct
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from chatmesh.conversation.v1 import conversation_pb2, conversation_service_pb2, conversation_service_pb2_grpc
from chatmesh.usage.v1 import usage_service_pb2, usage_service_pb2_grpc
from tests.contract.edge.conftest import ORIGIN, MakeConfig
from tests.contract.edge.fakes import CONVERSATION, Backend, Script
from tests.contract.edge.process import Edge, Keys, call, running_edge, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def named(request: conversation_service_pb2.GetConversationRequest, _context: object) -> object:
    return conversation_pb2.Conversation(id=request.conversation_id)


async def test_healthz_follows_conversation(http: httpx.AsyncClient, backend: Backend) -> None:
    async def answers(status: int) -> bool:
        return (await http.get("/healthz")).status_code == status

    assert await answers(200)
    await backend.set_serving(False)
    try:
        await until(lambda: answers(503), what="503 while Conversation is not serving")
    finally:
        await backend.set_serving(True)
    await until(lambda: answers(200), what="200 again")


async def test_rest_answers_in_snake_case_with_every_scalar(
    http: httpx.AsyncClient, script: Script, keys: Keys
) -> None:
    script.on("GetConversation", named)
    response = await http.get("/v1/conversations/c1", headers=keys.bearer())
    assert response.json() == {
        "id": "c1",
        "title": "",
        "model": "",
        "system_prompt": "",
        "message_count": 0,
        "pinned": False,
        "archived": False,
        "current_message_id": "",
        "source_conversation_id": "",
    }


async def test_native_grpc_passes(channel: grpc.aio.Channel, script: Script, keys: Keys) -> None:
    script.on("GetConversation", named)
    stub = conversation_service_pb2_grpc.ConversationServiceStub(channel)
    request = conversation_service_pb2.GetConversationRequest(conversation_id="c2")
    assert (await stub.GetConversation(request, metadata=keys.metadata())).id == "c2"


async def test_grpc_web_passes(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    script.on("GetConversation", named)
    message = conversation_service_pb2.GetConversationRequest(conversation_id="c3").SerializeToString()
    response = await http.post(
        f"/{CONVERSATION}/GetConversation",
        content=struct.pack(">BI", 0, len(message)) + message,
        headers={**keys.bearer(), "content-type": "application/grpc-web+proto", "origin": ORIGIN},
    )
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == ORIGIN
    flag, length = struct.unpack(">BI", response.content[:5])
    assert flag == 0
    assert conversation_pb2.Conversation.FromString(response.content[5 : 5 + length]).id == "c3"
    trailers = response.content[5 + length :]
    assert trailers[0] == 0x80
    assert b"grpc-status:0" in trailers.replace(b" ", b"")


async def test_usage_answers_its_public_method_alone(channel: grpc.aio.Channel, script: Script, keys: Keys) -> None:
    async def usage(_request: object, _context: object) -> object:
        return usage_service_pb2.GetUsageResponse(tier="pro")

    script.on("GetUsage", usage)
    stub = usage_service_pb2_grpc.UsageServiceStub(channel)
    metadata = keys.metadata()
    assert (await stub.GetUsage(usage_service_pb2.GetUsageRequest(), metadata=metadata)).tier == "pro"
    with pytest.raises(grpc.aio.AioRpcError) as acquire:
        await stub.Acquire(usage_service_pb2.AcquireRequest(generation_id="g", tokens=1), metadata=metadata)
    with pytest.raises(grpc.aio.AioRpcError) as settle:
        await stub.Settle(usage_service_pb2.SettleRequest(), metadata=metadata)
    assert acquire.value.code() is settle.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert [call.method for call in script.calls] == ["GetUsage"]


async def test_usage_over_rest(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    async def usage(request: usage_service_pb2.GetUsageRequest, _context: object) -> object:
        assert request.days == 7
        return usage_service_pb2.GetUsageResponse(tier="pro")

    script.on("GetUsage", usage)
    response = await http.get("/v1/usage?days=7", headers=keys.bearer())
    assert response.json()["tier"] == "pro"


@pytest.mark.parametrize(
    "method",
    [
        "/chatmesh.usage.v1.UsageService/Acquire",
        "/chatmesh.router.v1.RouterService/Route",
        "/chatmesh.inference.v1.InferenceService/Generate",
        "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
        "/chatmesh.conversation.v1.ConversationServiceX/GetConversation",
        "/chatmesh.conversation.v1.ExperimentService/GetExperimentResults",
        "/v1/conversations",
        "/nothing",
    ],
)
@pytest.mark.parametrize("kind", ["grpc", "json"])
async def test_the_rest_is_not_there(
    http: httpx.AsyncClient, channel: grpc.aio.Channel, script: Script, keys: Keys, method: str, kind: str
) -> None:
    if kind == "grpc":
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, method, headers=keys.bearer())
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    else:
        response = await http.put(method, headers=keys.bearer(), json={})
        assert response.status_code == 404
        assert response.json()["code"] == 5
        assert f"PUT {method}" in response.json()["message"]
    assert not script.calls


@pytest.mark.parametrize("path", ["/v1%2Fconversations/c1", "/V1/conversations/c1", "/x/v1/conversations/c1", "/"])
async def test_no_spelling_of_a_path_gets_past_the_token(http: httpx.AsyncClient, script: Script, path: str) -> None:
    response = await http.get(path)
    assert response.status_code == 404
    assert response.json()["details"][0]["reason"] == "ROUTE_NOT_FOUND"
    assert not script.calls


@pytest.mark.parametrize("path", ["/%76%31/conversations/c", "/x/..%2fv1/conversations/c", "/./v1/conversations/c"])
async def test_normalised_paths_need_the_token(http: httpx.AsyncClient, script: Script, path: str) -> None:
    assert (await http.get(httpx.URL(http.base_url, raw_path=path.encode()))).status_code in (401, 404)
    assert not script.calls


async def test_health_and_reflection_need_no_token(channel: grpc.aio.Channel, script: Script) -> None:
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    listed = await call.read()
    await call.done_writing()
    assert CONVERSATION in [service.name for service in listed.list_services_response.service]
    # Nobody is known, so it is the address that is limited.
    keys = {e.key for call in script.rate_limit_calls for d in call.descriptors for e in d.entries}
    assert keys == {"remote_address"}


async def test_preflight_needs_no_token(http: httpx.AsyncClient, script: Script) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    allowed = await http.options("/v1/conversations", headers={"origin": ORIGIN, **asked})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    refused = await http.options("/v1/conversations", headers={"origin": "https://evil.test", **asked})
    assert "access-control-allow-origin" not in refused.headers
    assert not script.calls


async def test_errors_can_be_read_by_pages_of_the_origin(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/conversations", headers={"origin": ORIGIN})
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == ORIGIN
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert {"retry-after", "x-chatmesh-route"} <= set(exposed)


@pytest.mark.parametrize("path", ["/healthz", "/v1/conversations", "/nothing"])
async def test_security_headers_are_on_every_answer(http: httpx.AsyncClient, path: str) -> None:
    headers = (await http.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cache-control"] == "no-cache"
    assert headers["x-request-id"]
    assert "strict-transport-security" not in headers
    assert not [name for name in headers if name.startswith("x-envoy")]


async def test_a_second_edge_on_the_port_fails(edge: Edge, make_config: MakeConfig, directory: Path) -> None:
    config = make_config("second", listen_port=edge.port)
    with pytest.raises(AssertionError, match="Address already in use"):
        async with running_edge(config, directory / "second"):
            pass
