"""Upstreams that are away, slow or draining, and the edge's own end. Each test runs an Envoy of its own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from chatmesh.conversation.v1 import (
    conversation_pb2,
    conversation_service_pb2,
    conversation_service_pb2_grpc,
    generation_event_pb2,
)
from services.cli.edge import drain
from tests.contract.edge.conftest import MakeConfig, healthy
from tests.contract.edge.fakes import Script, start_backend
from tests.contract.edge.process import Keys, call, running_edge, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

STREAM = "/v1/conversations/c1/messages:stream"


async def empty(_request: object, _context: object) -> object:
    return conversation_pb2.Conversation()


async def test_a_service_that_is_away(make_config: MakeConfig, directory: Path, keys: Keys, script: Script) -> None:
    gone = await start_backend(Script())
    await gone.stop()
    config = make_config("away", conversation=(gone.conversation,))
    async with running_edge(config, directory / "away") as edge, edge.http() as http:
        native = await http.get("/v1/conversations", headers=keys.bearer())
        openai = await http.get("/v1/models", headers=keys.bearer())
        for response in (native, openai):
            assert response.status_code == 503
            assert response.headers["content-type"] == "application/json"
            assert response.headers["retry-after"] == "1"
            assert "try again" in response.text
        assert native.json()["code"] == 14
        assert openai.json()["error"]["code"] == "service_unavailable"
        assert (await http.get("/healthz")).status_code == 503
        async with grpc.aio.insecure_channel(edge.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(
                    channel, "/chatmesh.conversation.v1.ConversationService/GetConversation", headers=keys.bearer()
                )
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]
        info = error_details_pb2.ErrorInfo()
        assert status is not None
        assert status.details[0].Unpack(info)
        assert info.reason == "DEPENDENCY_UNAVAILABLE"


async def test_a_limiter_that_is_away_lets_requests_pass(
    make_config: MakeConfig, directory: Path, keys: Keys, script: Script
) -> None:
    gone = await start_backend(Script())
    await gone.stop()
    script.on("GetConversation", empty)
    config = make_config("no-limiter", usage=(gone.usage,))
    async with running_edge(config, directory / "no-limiter") as edge, edge.http() as http:
        response = await http.get("/v1/conversations/c", headers=keys.bearer())
    assert response.status_code == 200


async def test_one_of_two_replicas_away_is_not_noticed(
    make_config: MakeConfig, directory: Path, keys: Keys, script: Script
) -> None:
    gone = await start_backend(Script())
    await gone.stop()
    script.on("GetConversation", empty)
    config = make_config("two")
    config = make_config("two", conversation=(gone.conversation, *config.conversation))
    async with running_edge(config, directory / "two") as edge, edge.http() as http:
        statuses = [(await http.get("/v1/conversations/c", headers=keys.bearer())).status_code for _ in range(20)]
    assert statuses == [200] * 20


async def test_a_replica_that_does_not_serve_gets_no_more_requests(
    make_config: MakeConfig, directory: Path, keys: Keys, script: Script
) -> None:
    other = await start_backend(Script())
    try:
        for one in (script, other.script):
            one.on("GetConversation", empty)
        config = make_config("one-of-two")
        config = make_config("one-of-two", conversation=(*config.conversation, other.conversation))
        async with (
            running_edge(config, directory / "one-of-two") as edge,
            edge.http() as http,
        ):

            async def found_healthy(count: int) -> bool:
                async with edge.admin_client() as admin:
                    stats = await admin.get("/stats?filter=^cluster.conversation.membership_healthy$")
                return stats.text.strip().endswith(f": {count}")

            await until(lambda: found_healthy(2), what="both replicas are healthy")
            for _ in range(20):
                assert (await http.get("/v1/conversations/c", headers=keys.bearer())).status_code == 200
            # Both answer, so both are asked.
            assert script.calls
            assert other.script.calls
            await other.set_serving(False)
            await until(lambda: found_healthy(1), timeout_s=5, what="the other is left alone")
            other.script.calls.clear()
            for _ in range(20):
                assert (await http.get("/v1/conversations/c", headers=keys.bearer())).status_code == 200
            assert not other.script.calls
            await other.set_serving(True)
            await until(lambda: found_healthy(2), timeout_s=5, what="the replica is back")
    finally:
        await other.stop()


async def test_a_service_that_dies_in_mid_request_is_not_asked_again(
    make_config: MakeConfig, directory: Path, keys: Keys, script: Script
) -> None:
    dying = await start_backend(Script())
    asked = asyncio.Event()

    async def hang(_request: object, _context: object) -> object:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    dying.script.on("GetConversation", hang)
    config = make_config("dying", conversation=(dying.conversation,))
    async with running_edge(config, directory / "dying") as edge, edge.http() as http:
        await healthy(edge)
        waiting = asyncio.create_task(http.get("/v1/conversations/c", headers=keys.bearer()))
        await asked.wait()
        await dying.stop()
        response = await waiting
    assert response.status_code == 503
    assert response.json()["code"] == 14
    assert len(dying.script.calls) == 1


async def test_silence_before_the_first_byte_is_a_504(
    make_config: MakeConfig, directory: Path, keys: Keys, script: Script
) -> None:
    async def hang(_request: object, _context: object) -> AsyncIterator[object]:
        await asyncio.Event().wait()
        yield None

    script.on("StreamMessage", hang)
    script.on("CreateChatCompletion", hang)
    config = make_config("idle", stream_idle_timeout_s=0.3)
    async with running_edge(config, directory / "idle") as edge, edge.http() as http:
        native = await http.post(STREAM, headers=keys.bearer(), json={})
        openai = await http.post("/v1/chat/completions", headers=keys.bearer(), json={})
    assert native.status_code == openai.status_code == 504
    assert native.json()["details"][0]["reason"] == "DEADLINE_EXCEEDED"
    assert openai.json()["error"]["code"] == "timeout"


async def test_a_stream_that_talks_outlives_the_idle_timeout_but_not_the_cap(
    make_config: MakeConfig, directory: Path, keys: Keys, script: Script
) -> None:
    async def talk(_request: object, _context: object) -> AsyncIterator[object]:
        seq = 0
        while True:
            seq += 1
            yield generation_event_pb2.GenerationEvent(seq=seq)
            await asyncio.sleep(0.05)

    script.on("StreamMessage", talk)
    config = make_config("cap", stream_idle_timeout_s=0.5, max_stream_duration_s=1.5)
    received = 0
    async with (
        running_edge(config, directory / "cap") as edge,
        edge.http() as http,
        http.stream("POST", STREAM, headers=keys.bearer(), json={}) as response,
    ):
        chunks = response.aiter_raw()
        # Past the idle timeout: more than 0.5 s at an event each 0.05 s.
        while received <= 12:
            received += (await anext(chunks)).count(b"data: ")
        # It ends, by a reset or not; either way without a terminal event, by which a client knows that it was cut.
        with contextlib.suppress(httpx.RemoteProtocolError):
            async with asyncio.timeout(10):
                [chunk async for chunk in chunks]


async def test_too_many_connections(make_config: MakeConfig, directory: Path, script: Script) -> None:
    config = make_config("full", max_connections=2)
    async with running_edge(config, directory / "full") as edge:
        held = [await asyncio.open_connection("127.0.0.1", edge.port) for _ in range(2)]
        for _reader, writer in held:
            writer.write(b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n")
        for reader, _writer in held:
            assert (await reader.readline()).startswith(b"HTTP/1.1 404")
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        for _reader, open_writer in [*held, (reader, writer)]:
            open_writer.close()
            await open_writer.wait_closed()


async def test_drain_lets_streams_end(make_config: MakeConfig, directory: Path, keys: Keys, script: Script) -> None:
    go = asyncio.Event()

    async def two(_request: object, _context: Any) -> AsyncIterator[object]:
        yield generation_event_pb2.GenerationEvent(seq=1)
        await go.wait()
        yield generation_event_pb2.GenerationEvent(seq=2)

    script.on("StreamMessage", two)
    config = make_config("drain")
    async with running_edge(config, directory / "drain") as edge:
        async with grpc.aio.insecure_channel(edge.address) as channel:
            stub = conversation_service_pb2_grpc.ConversationServiceStub(channel)
            metadata = keys.metadata()
            stream: Any = stub.StreamMessage(conversation_service_pb2.SendMessageRequest(), metadata=metadata)
            assert (await stream.read()).seq == 1
            draining = asyncio.create_task(drain(config.admin, timeout_s=20))

            async def refuses() -> bool:
                try:
                    async with edge.http() as fresh:
                        return (await fresh.get("/healthz")).status_code == 503
                except httpx.TransportError:
                    return True

            await until(refuses, what="new callers are turned away")
            assert not draining.done()
            go.set()
            assert (await stream.read()).seq == 2
            assert await stream.read() is grpc.aio.EOF
        await asyncio.wait_for(draining, 10)
        edge.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(edge.process.wait(), 10) == 0
