"""A peer of the Inference service: what Conversation is to it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chatmesh.inference.v1 import generation_pb2, inference_service_pb2
from chatmesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import DomainError, from_status

SERVICE = "chatmesh.inference.v1.InferenceService"
DEADLINE_S = 60.0

Piece = tuple[str, Sequence[int]]
"""Text that was generated before, and the ids of its tokens."""


class Answer:
    """What a generation has said so far."""

    def __init__(self) -> None:
        self.deltas: list[generation_pb2.GenerationDelta] = []
        self.times: list[float] = []
        self.started = time.monotonic()
        self.changed = asyncio.Event()

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def token_ids(self) -> list[int]:
        return [token for delta in self.deltas for token in delta.token_ids]

    @property
    def tokens(self) -> int:
        return sum(delta.token_count for delta in self.deltas)

    @property
    def pieces(self) -> list[Piece]:
        return [(delta.text, list(delta.token_ids)) for delta in self.deltas]

    @property
    def end(self) -> generation_pb2.GenerationEnd:
        assert self.deltas[-1].HasField("end")
        return self.deltas[-1].end

    @property
    def ended(self) -> bool:
        return bool(self.deltas) and self.deltas[-1].HasField("end")

    async def until(self, condition: Callable[[Answer], bool]) -> Answer:
        async with asyncio.timeout(DEADLINE_S):
            while not condition(self):
                self.changed.clear()
                await self.changed.wait()
        return self

    async def finished(self) -> Answer:
        return await self.until(lambda answer: answer.ended)


class TestPeer:
    """One Generate stream; checks of each message what the contract promises of all of them."""

    __test__ = False

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = InferenceServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)
        self.messages = 0
        self.begun: list[str] = []
        """The ids of the answers in the order of their first tokens."""
        self.broken: list[str] = []
        self._call: Any = self.stub.Generate()
        self._writing = asyncio.Lock()
        self._ids = itertools.count()
        self._answers: dict[str, Answer] = defaultdict(Answer)
        self._reader = asyncio.create_task(self._read())

    async def start(
        self,
        text: str | list[tuple[str, str]] = "Hello",
        *,
        model: str = "synthetic",
        generation_id: str | None = None,
        traceparent: str = "",
        continuation: Sequence[Piece] = (),
        priority: generation_pb2.Priority = generation_pb2.PRIORITY_UNSPECIFIED,
        queue_timeout_ms: int = 0,
        **sampling: Any,
    ) -> tuple[str, Answer]:
        start = self.build(
            text,
            model=model,
            generation_id=generation_id,
            traceparent=traceparent,
            continuation=continuation,
            priority=priority,
            queue_timeout_ms=queue_timeout_ms,
            **sampling,
        )
        await self.send(starts=[start])
        return start.generation_id, self.answer(start.generation_id)

    def build(
        self,
        text: str | list[tuple[str, str]],
        *,
        model: str = "synthetic",
        generation_id: str | None = None,
        traceparent: str = "",
        continuation: Sequence[Piece] = (),
        priority: generation_pb2.Priority = generation_pb2.PRIORITY_UNSPECIFIED,
        queue_timeout_ms: int = 0,
        **sampling: Any,
    ) -> generation_pb2.GenerationStart:
        turns = [("user", text)] if isinstance(text, str) else text
        return generation_pb2.GenerationStart(
            generation_id=generation_id or f"g{next(self._ids)}",
            model=model,
            messages=[chat_pb2.ChatMessage(role=f"ROLE_{role.upper()}", content=content) for role, content in turns],
            sampling=chat_pb2.SamplingOptions(**sampling),
            traceparent=traceparent,
            continuation=[chat_pb2.GeneratedPiece(text=text, token_ids=ids) for text, ids in continuation],
            priority=priority,
            queue_timeout_ms=queue_timeout_ms,
        )

    def answer(self, generation_id: str) -> Answer:
        return self._answers[generation_id]

    async def send(self, **fields: Any) -> None:
        # A gRPC stream takes one write at a time.
        async with self._writing:
            await self._call.write(inference_service_pb2.GenerateRequest(**fields))

    async def ask(self, text: str | list[tuple[str, str]] = "Hello", **options: Any) -> Answer:
        _, answer = await self.start(text, **options)
        return await answer.finished()

    async def done_writing(self) -> None:
        await self._call.done_writing()

    async def ended(self) -> grpc.StatusCode:
        async with asyncio.timeout(DEADLINE_S):
            await self._reader
            code: grpc.StatusCode = await self._call.code()
            return code

    async def status(self) -> Any:
        """The replica's state now."""
        watch = self.stub.WatchStatus(inference_service_pb2.WatchStatusRequest())
        try:
            said: Any = await watch.read()
            return said.status
        finally:
            watch.cancel()

    async def model(self, name: str) -> Any:
        return next(model for model in (await self.status()).models if model.name == name)

    async def serving(self) -> bool:
        reply = await self.health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        self._call.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        assert not self.broken

    async def _read(self) -> None:
        try:
            async for message in self._call:
                self._take(message)
        except grpc.aio.AioRpcError:
            pass
        finally:
            for answer in self._answers.values():
                answer.changed.set()

    def _take(self, message: inference_service_pb2.GenerateResponse) -> None:
        self.messages += 1
        ids = [delta.generation_id for delta in message.deltas]
        if len(ids) != len(set(ids)) or not ids:
            self.broken.append(f"a message holds the deltas of {ids}")
        for delta in message.deltas:
            answer = self._answers[delta.generation_id]
            if answer.ended:
                self.broken.append(f"{delta.generation_id} said something after its end")
            if delta.token_ids and len(delta.token_ids) != delta.token_count:
                self.broken.append(f"{delta.generation_id}: {delta.token_count} tokens, {len(delta.token_ids)} ids")
            if not ((delta.token_count and delta.text) or delta.HasField("end")):
                self.broken.append(f"{delta.generation_id}: an empty delta")
            if delta.token_count and not answer.tokens:
                self.begun.append(delta.generation_id)
            answer.deltas.append(delta)
            answer.times.append(time.monotonic())
            answer.changed.set()


def error_of(answer: Answer) -> DomainError:
    """The error that an answer ended in."""
    assert answer.end.finish_reason == chat_pb2.FINISH_REASON_ERROR
    error = from_status(answer.end.error)
    assert error is not None
    return error


async def eventually(condition: Callable[[], Any], what: str) -> None:
    """Wait until an async condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not await condition():
        assert time.monotonic() < deadline, f"not in {DEADLINE_S:g} s: {what}"
        await asyncio.sleep(0.02)
