"""The native services of Conversation: generations, shares, users, export and import."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from google.api import httpbody_pb2
from google.protobuf import empty_pb2

from chatmesh.conversation.v1 import (
    conversation_pb2,
    generation_event_pb2,
    generation_service_pb2,
    generation_service_pb2_grpc,
    share_service_pb2,
    share_service_pb2_grpc,
    transfer_service_pb2,
    user_service_pb2,
)
from tests.contract.edge.conftest import MAX_BODY_BYTES, MAX_IMPORT_BYTES, ORIGIN
from tests.contract.edge.fakes import Script
from tests.contract.edge.process import Edge, Keys

pytestmark = pytest.mark.asyncio(loop_scope="session")

SPOOF = {"x-chatmesh-user": "mallory", "x-chatmesh-tier": "admin"}
MIB = 1024 * 1024


async def events(request: Any, _context: object) -> AsyncIterator[generation_event_pb2.GenerationEvent]:
    seq = getattr(request, "after_seq", 0)
    for text in ("one ", "two"):
        seq += 1
        yield generation_event_pb2.GenerationEvent(
            generation_id="g", seq=seq, delta=generation_event_pb2.GenerationDelta(text=text)
        )


async def shared(request: Any, _context: object) -> share_service_pb2.SharedConversation:
    return share_service_pb2.SharedConversation(title=request.token, next_page_token=request.page_token)


def read_sse(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]


async def test_a_watch_is_sse_from_the_position_that_was_asked_for(
    http: httpx.AsyncClient, script: Script, keys: Keys
) -> None:
    script.on("WatchGeneration", events)
    response = await http.get("/v1/generations/g1:watch?after_seq=41", headers=keys.bearer())
    assert response.headers["content-type"] == "text/event-stream"
    assert [event["seq"] for event in read_sse(response.text)] == [42, 43]
    request = script.only_call().request
    assert (request.generation_id, request.after_seq) == ("g1", 41)


async def test_a_watch_may_be_silent_at_first(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    go = asyncio.Event()
    asked = asyncio.Event()

    async def late(request: Any, context: object) -> AsyncIterator[object]:
        asked.set()
        await go.wait()
        async for event in events(request, context):
            yield event

    script.on("WatchGeneration", late)
    waiting = asyncio.create_task(http.get("/v1/generations/g1:watch", headers=keys.bearer()))
    await asked.wait()
    # Longer than a connection or a health check takes; test_faults shows the timeout that does bite.
    done, _ = await asyncio.wait({waiting}, timeout=3)
    assert not done
    go.set()
    assert len(read_sse((await waiting).text)) == 2


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        ("/v1/conversations/c1/messages/m1:edit", "EditMessage", {"content": "new"}),
        ("/v1/conversations/c1/messages/m1:regenerate", "RegenerateMessage", {"model": "m"}),
        ("/v1/temporary:stream", "StreamTemporaryMessage", {"messages": [{"role": "ROLE_USER", "content": "hi"}]}),
    ],
)
async def test_every_way_to_an_answer_is_sse(
    http: httpx.AsyncClient, script: Script, keys: Keys, path: str, method: str, body: dict[str, Any]
) -> None:
    script.on(method, events)
    response = await http.post(path, headers=keys.bearer(), json=body)
    assert response.headers["content-type"] == "text/event-stream"
    assert [event["delta"]["text"] for event in read_sse(response.text)] == ["one ", "two"]
    request = script.only_call().request
    if "c1" in path:
        assert (request.conversation_id, request.message_id) == ("c1", "m1")


async def test_stop(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    async def stop(request: Any, _context: object) -> generation_service_pb2.Generation:
        return generation_service_pb2.Generation(
            id=request.generation_id, state=generation_service_pb2.GENERATION_STATE_STOPPED
        )

    script.on("StopGeneration", stop)
    response = await http.post("/v1/generations/g1:stop", headers=keys.bearer())
    assert response.status_code == 200
    assert (response.json()["id"], response.json()["state"]) == ("g1", "GENERATION_STATE_STOPPED")


async def test_the_list_of_generations_takes_its_parameters(
    http: httpx.AsyncClient, script: Script, keys: Keys
) -> None:
    async def listed(_request: object, _context: object) -> generation_service_pb2.ListGenerationsResponse:
        return generation_service_pb2.ListGenerationsResponse()

    script.on("ListGenerations", listed)
    path = "/v1/generations?conversation_id=c1&state=generation_state_open&page_size=3"
    assert (await http.get(path, headers=keys.bearer())).json() == {"generations": [], "next_page_token": ""}
    request = script.only_call().request
    assert (request.conversation_id, request.page_size) == ("c1", 3)
    assert request.state == generation_service_pb2.GENERATION_STATE_OPEN
    unknown = await http.get("/v1/generations/g1:watch?after=1", headers=keys.bearer())
    assert unknown.status_code == 400
    assert "after" in unknown.json()["message"]


async def test_converse_speaks_and_listens_at_once(channel: grpc.aio.Channel, script: Script, keys: Keys) -> None:
    async def converse(requests: Any, _context: object) -> AsyncIterator[generation_service_pb2.ConverseResponse]:
        async for request in requests:
            yield generation_service_pb2.ConverseResponse(tag=request.tag)

    script.on("Converse", converse)
    stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
    call: Any = stub.Converse(metadata=keys.metadata())
    for tag in ("a", "b"):
        # The answer to the first comes before the second is sent.
        await call.write(generation_service_pb2.ConverseRequest(tag=tag))
        assert (await asyncio.wait_for(call.read(), 5)).tag == tag
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert script.only_call().metadata["x-chatmesh-user"] == "alice"


async def test_converse_is_not_part_of_rest_and_needs_a_token(
    channel: grpc.aio.Channel, http: httpx.AsyncClient, script: Script, keys: Keys
) -> None:
    path = "/chatmesh.conversation.v1.GenerationService/Converse"
    assert (await http.post(path, headers=keys.bearer(), json={})).status_code == 404
    call: Any = generation_service_pb2_grpc.GenerationServiceStub(channel).Converse()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not script.calls


@pytest.mark.parametrize("kind", ["none", "valid", "expired", "forged", "nonsense"])
async def test_what_is_shared_is_read_with_any_token_or_none(
    http: httpx.AsyncClient, channel: grpc.aio.Channel, script: Script, keys: Keys, kind: str
) -> None:
    script.on("GetSharedConversation", shared)
    sent = {
        "none": {},
        "valid": keys.bearer(),
        "expired": keys.bearer(exp=int(time.time()) - 120),
        "forged": Keys().bearer(),
        "nonsense": {"authorization": "Basic YTpi"},
    }[kind]
    response = await http.get("/v1/shared/t1?page_token=p", headers={**SPOOF, **sent})
    assert response.status_code == 200
    assert (response.json()["title"], response.json()["next_page_token"]) == ("t1", "p")
    stub = share_service_pb2_grpc.ShareServiceStub(channel)
    answer = await stub.GetSharedConversation(
        share_service_pb2.GetSharedConversationRequest(token="t2"), metadata=tuple({**SPOOF, **sent}.items())
    )
    assert answer.title == "t2"
    for call in script.calls:
        assert "x-chatmesh-user" not in call.metadata
        assert call.metadata.get("x-chatmesh-tier") != "admin"
        assert "authorization" not in call.metadata
    # Nobody is known, so it is the address that is limited; once for each call.
    entries = [[e.key for e in d.entries] for call in script.rate_limit_calls for d in call.descriptors]
    assert entries == [["remote_address"], ["remote_address"]]


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("POST", "/v1/shared/t1:continue"),
        ("POST", "/v1/shared/t1"),
        ("DELETE", "/v1/shared/t1"),
        ("GET", "/v1/shares"),
        ("DELETE", "/v1/shares/t1"),
        ("POST", "/v1/conversations/c1:share"),
        ("GET", "/v1/shared"),
        ("GET", "/v1/shared/../conversations"),
        ("GET", "/v1/shared/%2e%2e/conversations"),
        ("GET", "/v1/settings"),
        ("DELETE", "/v1/users/me/data?confirm=true"),
        ("GET", "/v1/conversations:export"),
        ("POST", "/v1/conversations:import"),
        ("GET", "/v1/generations/g1:watch"),
    ],
)
async def test_everything_else_needs_a_token(http: httpx.AsyncClient, script: Script, verb: str, path: str) -> None:
    url = httpx.URL(http.base_url, raw_path=path.encode())
    response = await http.request(verb, url, headers=SPOOF, content=b"{}" if verb == "POST" else None)
    assert response.status_code == 401
    assert not script.calls


@pytest.mark.parametrize("method", ["ContinueSharedConversation", "ListShares", "ShareConversation", "DeleteShare"])
async def test_the_other_methods_of_shares_need_a_token_over_grpc(
    channel: grpc.aio.Channel, script: Script, method: str
) -> None:
    stub = share_service_pb2_grpc.ShareServiceStub(channel)
    request = {
        "ContinueSharedConversation": share_service_pb2.ContinueSharedConversationRequest(token="t"),
        "ListShares": share_service_pb2.ListSharesRequest(),
        "ShareConversation": share_service_pb2.ShareConversationRequest(conversation_id="c"),
        "DeleteShare": share_service_pb2.DeleteShareRequest(token="t"),
    }[method]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(stub, method)(request)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not script.calls


@pytest.mark.parametrize("path", ["/v1/shared/a/b", "/v1/shared/", "/v1/shared/t1:continue", "/v1/shared/t1?x=1"])
async def test_nothing_but_the_reading_of_a_share_is_behind_the_open_path(
    http: httpx.AsyncClient, script: Script, path: str
) -> None:
    assert (await http.get(path)).status_code in (400, 404)
    assert not script.calls


async def test_an_escaped_slash_stays_in_the_token_of_a_share(http: httpx.AsyncClient, script: Script) -> None:
    script.on("GetSharedConversation", shared)
    await http.get(httpx.URL(http.base_url, raw_path=b"/v1/shared/..%2Fconversations"))
    assert script.only_call().request.token == "../conversations"


async def test_a_share_is_continued_by_a_user(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    async def copy(request: Any, _context: object) -> conversation_pb2.Conversation:
        return conversation_pb2.Conversation(id=f"copy-of-{request.token}")

    script.on("ContinueSharedConversation", copy)
    response = await http.post("/v1/shared/t1:continue", headers=keys.bearer(), json={})
    assert response.json()["id"] == "copy-of-t1"
    assert script.only_call().metadata["x-chatmesh-user"] == "alice"


@pytest.mark.parametrize("verb", ["GET", "PATCH"])
async def test_settings(http: httpx.AsyncClient, script: Script, keys: Keys, verb: str) -> None:
    async def settings(_request: object, _context: object) -> user_service_pb2.Settings:
        return user_service_pb2.Settings(custom_instructions="short")

    script.on("GetSettings" if verb == "GET" else "UpdateSettings", settings)
    body = {"custom_instructions": ""} if verb == "PATCH" else None
    response = await http.request(verb, "/v1/settings", headers=keys.bearer(), json=body)
    assert response.json()["custom_instructions"] == "short"
    if verb == "PATCH":
        # Said to be empty, which is not the same as not said.
        assert script.only_call().request.HasField("custom_instructions")
        assert not script.only_call().request.HasField("default_model")


@pytest.mark.parametrize(("query", "confirmed"), [("?confirm=true", True), ("", False)])
async def test_a_delete_takes_its_query(
    http: httpx.AsyncClient, script: Script, keys: Keys, query: str, confirmed: bool
) -> None:
    async def delete(_request: object, _context: object) -> user_service_pb2.DeleteUserDataResponse:
        return user_service_pb2.DeleteUserDataResponse(conversations=3)

    script.on("DeleteUserData", delete)
    response = await http.delete(f"/v1/users/me/data{query}", headers=keys.bearer())
    assert response.json() == {"conversations": "3"}
    assert script.only_call().request.confirm is confirmed


async def test_a_delete_without_an_answer(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    async def nothing(_request: object, _context: object) -> empty_pb2.Empty:
        return empty_pb2.Empty()

    script.on("DeleteShare", nothing)
    response = await http.delete("/v1/shares/t1", headers=keys.bearer())
    assert (response.status_code, response.json()) == (200, {})


@pytest.mark.parametrize("verb", ["DELETE", "PATCH"])
async def test_pages_of_the_origin_may_change_and_delete(http: httpx.AsyncClient, verb: str) -> None:
    asked = {"origin": ORIGIN, "access-control-request-method": verb}
    response = await http.options("/v1/users/me/data?confirm=true", headers=asked)
    assert response.status_code == 200
    assert verb in response.headers["access-control-allow-methods"].split(", ")


async def test_an_export_is_passed_on_as_it_comes(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    go = asyncio.Event()

    async def export(_request: object, _context: object) -> AsyncIterator[httpbody_pb2.HttpBody]:
        yield httpbody_pb2.HttpBody(content_type="text/markdown", data=b"# One\n")
        await go.wait()
        yield httpbody_pb2.HttpBody(data=b"# Two\n")

    script.on("ExportConversations", export)
    path = "/v1/conversations:export?format=EXPORT_FORMAT_MARKDOWN&conversation_id=c1"
    async with http.stream("GET", path, headers=keys.bearer()) as response:
        assert response.headers["content-type"] == "text/markdown"
        chunks = response.aiter_raw()
        assert await asyncio.wait_for(anext(chunks), 5) == b"# One\n"
        go.set()
        assert await asyncio.wait_for(anext(chunks), 5) == b"# Two\n"
    request = script.only_call().request
    assert (request.conversation_id, request.format) == ("c1", transfer_service_pb2.EXPORT_FORMAT_MARKDOWN)


class Importer:
    """Takes an import, part by part."""

    def __init__(self) -> None:
        self.parts: list[int] = []
        self.content_types: list[str] = []
        self.begun = asyncio.Event()

    async def __call__(self, requests: Any, _context: object) -> transfer_service_pb2.ImportConversationsResponse:
        async for part in requests:
            self.parts.append(len(part.data))
            self.content_types.append(part.content_type)
            self.begun.set()
        return transfer_service_pb2.ImportConversationsResponse(imported=1)


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_import_arrives_in_parts(http: httpx.AsyncClient, script: Script, keys: Keys, chunked: bool) -> None:
    importer = Importer()
    script.on("ImportConversations", importer)
    total = 20 * MIB

    async def body() -> AsyncIterator[bytes]:
        yield b"[" * MIB
        # The rest is not sent before the first parts were received: an edge that holds the whole back would hang here.
        await asyncio.wait_for(importer.begun.wait(), 10)
        for _ in range(total // MIB - 1):
            yield b" " * MIB

    headers = {**keys.bearer(), "content-type": "application/json"}
    if not chunked:
        headers["content-length"] = str(total)
    response = await http.post("/v1/conversations:import", headers=headers, content=body())
    assert response.status_code == 200
    assert response.json()["imported"] == 1
    assert sum(importer.parts) == total
    assert len(importer.parts) > 20
    # No part comes near to what a service receives.
    assert max(importer.parts) <= MIB
    assert importer.content_types[0] == "application/json"


async def test_an_import_that_is_too_large(edge: Edge, http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
    # It is refused for what it says: not a byte of the body has to be sent.
    writer.write(
        f"POST /v1/conversations:import HTTP/1.1\r\nhost: edge\r\nauthorization: Bearer {keys.token()}\r\n"
        f"content-length: {MAX_IMPORT_BYTES + 1}\r\n\r\n".encode()
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.startswith(b"content-length"))
    body = json.loads(await reader.readexactly(length))
    writer.close()
    assert head.startswith(b"HTTP/1.1 413")
    assert str(MAX_IMPORT_BYTES) in body["message"]
    assert body["details"][0]["reason"] == "REQUEST_TOO_LARGE"
    other = await http.post("/v1/conversations", headers=keys.bearer(), content=b" " * (MAX_BODY_BYTES + 1))
    assert str(MAX_BODY_BYTES) in other.json()["message"]
    assert not script.calls


async def test_an_import_that_the_service_refuses_in_the_middle(
    http: httpx.AsyncClient, script: Script, keys: Keys
) -> None:
    async def refuse(requests: Any, context: Any) -> None:
        await anext(aiter(requests))
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "too much of it")

    script.on("ImportConversations", refuse)
    response = await http.post("/v1/conversations:import", headers=keys.bearer(), content=b" " * (4 * MIB))
    assert response.status_code == 400
    assert response.json()["message"] == "too much of it"
