"""Calls of the OpenAI surface and what comes back, as its clients read it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from google.api import httpbody_pb2

from chatmesh.conversation.v1.openai_service_pb2_grpc import OpenAIServiceStub
from chatmesh.inference.v1 import inference_service_pb2
from chatmesh.inference.v1.generation_pb2 import GenerationDelta, ToolCallDelta
from chatmesh.inference.v1.inference_service_pb2_grpc import (
    InferenceServiceServicer,
    add_InferenceServiceServicer_to_server,
)
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import DomainError, from_rpc_error
from tests.rpc.conversation.peers import Peer
from tests.rpc.conversation.scripted import DEADLINE_S, Method, eventually

HELLO = [{"role": "user", "content": "Hello"}]


class Client:
    """A client of the surface."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = OpenAIServiceStub(channel)
        self._metadata = (("x-chatmesh-user", f"user-{uuid.uuid4().hex}"), ("x-chatmesh-tier", "pro"))

    def complete(self, messages: Sequence[Mapping[str, Any]] = HELLO, **fields: Any) -> Completion:
        return Completion(
            self._stub.CreateChatCompletion(_body({"messages": messages, **fields}), metadata=self._metadata)
        )

    async def embed(self, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The body, and the receipt of the header."""
        call = self._stub.CreateEmbedding(_body(fields), metadata=self._metadata)
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="conversation") from error
        return json.loads(response.data), await _receipt(call)

    async def moderate(self, **fields: Any) -> dict[str, Any]:
        """The body."""
        call = self._stub.CreateModeration(_plain_body(fields), metadata=self._metadata)
        try:
            response = await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="conversation") from error
        assert response.content_type == "application/json"
        body: dict[str, Any] = json.loads(response.data)
        return body


class Completion:
    """A completion, read to its end."""

    def __init__(self, call: Any) -> None:
        self.chunks: list[dict[str, Any]] = []
        self.whole: dict[str, Any] = {}
        self.done = False
        self._call = call
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._call:
            if message.content_type == "application/json":
                self.whole = json.loads(message.data)
                continue
            for line in message.data.decode().split("\n\n"):
                if line == "data: [DONE]":
                    self.done = True
                elif line:
                    assert not self.done
                    self.chunks.append(json.loads(line.removeprefix("data: ")))

    async def ended(self) -> Completion:
        async with asyncio.timeout(DEADLINE_S):
            await self._task
        return self

    async def refusal(self) -> DomainError:
        try:
            await self.ended()
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error, service="conversation")
        raise AssertionError(f"it was not refused: {self.whole or self.chunks}")

    async def leave(self) -> None:
        self._call.cancel()
        await asyncio.wait([self._task])

    async def shows(self, text: str, *, index: int = 0) -> None:
        await eventually(lambda: self.text(index) == text or self._task.done(), f"{text!r} is shown")
        assert self.text(index) == text

    async def receipt(self) -> dict[str, Any]:
        return await _receipt(self._call)

    def of(self, index: int) -> list[dict[str, Any]]:
        """The chunks of one choice."""
        return [choice for chunk in self.chunks for choice in chunk.get("choices", ()) if choice["index"] == index]

    def text(self, index: int = 0) -> str:
        return "".join(choice["delta"].get("content") or "" for choice in self.of(index))

    def reasons(self, index: int = 0) -> list[str]:
        return [choice["finish_reason"] for choice in self.of(index) if choice["finish_reason"]]

    def tokens(self, index: int = 0) -> list[str]:
        said = [choice["logprobs"]["content"] for choice in self.of(index) if choice["logprobs"]]
        return [token["token"] for tokens in said for token in tokens]

    def calls(self, index: int = 0) -> list[dict[str, Any]]:
        return [call for choice in self.of(index) for call in choice["delta"].get("tool_calls", ())]


class FakeEmbedder(Peer, InferenceServiceServicer):
    """A replica that embeds as queued."""

    def __init__(self, replica_id: str) -> None:
        super().__init__()
        self.replica_id = replica_id
        self.embed = Method("inference.Embed", [])

    def add_to(self, server: grpc.aio.Server) -> None:
        add_InferenceServiceServicer_to_server(self, server)

    async def Embed(self, request: inference_service_pb2.EmbedRequest, context: Any) -> Any:
        return await self.embed.take(request, context)

    async def CountTokens(self, request: Any, context: Any) -> Any:
        raise AssertionError("nobody counts here")

    def Generate(self, requests: Any, context: Any) -> Any:
        raise AssertionError("nothing is generated here")

    def WatchStatus(self, request: Any, context: Any) -> Any:
        raise AssertionError("conversation watches nobody")


def vectors(*values: Sequence[float], tokens: int = 7, truncated: int = 0) -> inference_service_pb2.EmbedResponse:
    return inference_service_pb2.EmbedResponse(
        embeddings=[inference_service_pb2.Embedding(values=vector) for vector in values],
        prompt_tokens=tokens,
        truncated=truncated,
    )


def thought(generation_id: str, *texts: str) -> GenerationDelta:
    """More text, with what the model thought of its tokens."""
    return GenerationDelta(
        generation_id=generation_id,
        text="".join(texts),
        token_count=len(texts),
        logprobs=[
            chat_pb2.TokenLogprob(
                token=text, bytes=text.encode(), logprob=-0.25, top=[chat_pb2.TokenLogprob(token="?", logprob=-2.5)]
            )
            for text in texts
        ],
    )


def asks(generation_id: str, *arguments: str, index: int = 0, name: str = "weather") -> list[GenerationDelta]:
    """A call, in as many deltas as there are arguments."""
    return [
        GenerationDelta(
            generation_id=generation_id,
            token_count=1,
            tool_calls=[
                ToolCallDelta(
                    index=index,
                    id="" if number else f"call_{index}",
                    name="" if number else name,
                    arguments=part,
                )
            ],
        )
        for number, part in enumerate(arguments)
    ]


async def _receipt(call: Any) -> dict[str, Any]:
    metadata = dict(await call.initial_metadata())
    text = metadata["x-chatmesh-route"]
    assert isinstance(text, str)
    receipt: dict[str, Any] = json.loads(text)
    return receipt


def _body(fields: Mapping[str, Any]) -> httpbody_pb2.HttpBody:
    return _plain_body({"model": "auto", **fields})


def _plain_body(fields: Mapping[str, Any]) -> httpbody_pb2.HttpBody:
    return httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(fields).encode())
