"""Streams: flushed message by message, ended with the client, never silently."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from google.api import httpbody_pb2

from chatmesh.conversation.v1 import conversation_service_pb2, conversation_service_pb2_grpc, generation_event_pb2
from tests.contract.edge.fakes import Script
from tests.contract.edge.process import Keys

pytestmark = pytest.mark.asyncio(loop_scope="session")

STREAM = "/v1/conversations/c1/messages:stream"
CHAT = "/v1/chat/completions"


class Steps:
    """A streaming handler that sends its next message when told, and notes how it ended."""

    def __init__(self, messages: list[Any], *, abort: grpc.StatusCode | None = None) -> None:
        self._messages = messages
        self._abort = abort
        self._go = asyncio.Semaphore(0)
        self.cancelled = asyncio.Event()

    def next(self) -> None:
        self._go.release()

    async def __call__(self, _request: object, context: Any) -> AsyncIterator[Any]:
        try:
            for message in self._messages:
                await self._go.acquire()
                yield message
            await self._go.acquire()
            if self._abort is not None:
                await context.abort(self._abort, "the engine stopped")
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def delta(seq: int, text: str) -> generation_event_pb2.GenerationEvent:
    return generation_event_pb2.GenerationEvent(
        generation_id="g", seq=seq, delta=generation_event_pb2.GenerationDelta(text=text)
    )


def sse(text: str, content_type: str = "") -> httpbody_pb2.HttpBody:
    return httpbody_pb2.HttpBody(content_type=content_type, data=text.encode())


async def test_events_arrive_one_by_one_as_typed_sse(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    steps = Steps([delta(1, "a\nb"), delta(2, "\u2713 c")])
    script.on("StreamMessage", steps)
    steps.next()
    async with http.stream("POST", STREAM, headers=keys.bearer(), json={"content": "hi"}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["x-accel-buffering"] == "no"
        chunks = response.aiter_raw()
        # The second event is not sent before the first was received: an edge that gathers would hang here.
        first = await asyncio.wait_for(anext(chunks), 5)
        assert first.startswith(b"data: ")
        assert first.endswith(b"\n\n")
        event = json.loads(first.removeprefix(b"data: "))
        assert event == {"generation_id": "g", "epoch": 0, "seq": 1, "delta": {"text": "a\nb"}}
        steps.next()
        assert json.loads((await asyncio.wait_for(anext(chunks), 5))[6:])["delta"]["text"] == "\u2713 c"
        steps.next()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(chunks), 5)
    assert script.only_call().request.conversation_id == "c1"


async def test_openai_stream_passes_untouched_to_done(http: httpx.AsyncClient, script: Script, keys: Keys) -> None:
    texts = ['event: x\ndata: {"a": 1}\n\n', ": ping\n\n", "data: [DONE]\n\n"]
    steps = Steps([sse(text, "text/event-stream" if not number else "") for number, text in enumerate(texts)])
    script.on("CreateChatCompletion", steps)
    steps.next()
    async with http.stream("POST", CHAT, headers=keys.bearer(), json={"model": "m"}) as response:
        assert response.headers["content-type"] == "text/event-stream"
        chunks = response.aiter_raw()
        for text in texts:
            assert (await asyncio.wait_for(anext(chunks), 5)).decode() == text
            steps.next()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(anext(chunks), 5)
    request = script.only_call().request
    assert (request.content_type, json.loads(request.data)) == ("application/json", {"model": "m"})


@pytest.mark.parametrize(("path", "method"), [(STREAM, "StreamMessage"), (CHAT, "CreateChatCompletion")])
async def test_a_client_that_leaves_cancels_the_handler(
    http: httpx.AsyncClient, script: Script, keys: Keys, path: str, method: str
) -> None:
    first = delta(1, "a") if method == "StreamMessage" else sse("data: 1\n\n", "text/event-stream")
    steps = Steps([first, first])
    script.on(method, steps)
    steps.next()
    async with http.stream("POST", path, headers=keys.bearer(), json={}) as response:
        await asyncio.wait_for(anext(response.aiter_raw()), 5)
        assert not steps.cancelled.is_set()
    await asyncio.wait_for(steps.cancelled.wait(), 2)


async def test_a_grpc_client_that_cancels_cancels_the_handler(
    channel: grpc.aio.Channel, script: Script, keys: Keys
) -> None:
    steps = Steps([delta(1, "a"), delta(2, "b")])
    script.on("StreamMessage", steps)
    stub = conversation_service_pb2_grpc.ConversationServiceStub(channel)
    stream: Any = stub.StreamMessage(
        conversation_service_pb2.SendMessageRequest(), metadata=tuple(keys.bearer().items())
    )
    steps.next()
    assert (await stream.read()).seq == 1
    stream.cancel()
    await asyncio.wait_for(steps.cancelled.wait(), 2)


async def test_a_stream_cut_by_the_service(
    http: httpx.AsyncClient, channel: grpc.aio.Channel, script: Script, keys: Keys
) -> None:
    """Over gRPC the status arrives. HTTP/1.1 has no place for it: the body just ends, hence the in-band last event."""
    steps = Steps([delta(1, "a")], abort=grpc.StatusCode.UNAVAILABLE)
    script.on("StreamMessage", steps)
    steps.next()
    steps.next()
    response = await http.post(STREAM, headers=keys.bearer(), json={})
    assert response.status_code == 200
    assert response.text.count("data: ") == 1
    assert "the engine stopped" not in response.text
    stub = conversation_service_pb2_grpc.ConversationServiceStub(channel)
    stream: Any = stub.StreamMessage(
        conversation_service_pb2.SendMessageRequest(), metadata=tuple(keys.bearer().items())
    )
    steps.next()
    steps.next()
    assert (await stream.read()).seq == 1
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "the engine stopped"


async def test_many_streams_share_the_edge(channel: grpc.aio.Channel, script: Script, keys: Keys) -> None:
    steps = Steps([delta(1, "a")])
    script.on("StreamMessage", steps)
    stub = conversation_service_pb2_grpc.ConversationServiceStub(channel)
    metadata = keys.metadata()
    calls = [stub.StreamMessage(conversation_service_pb2.SendMessageRequest(), metadata=metadata) for _ in range(200)]
    for _ in range(400):
        steps.next()
    assert [[event.seq async for event in call] for call in calls] == [[1]] * 200
