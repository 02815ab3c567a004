"""The far ends of the two multiplexed streams: an engine and a checker of which the test holds the strings."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import grpc

from chatmesh.inference.v1 import generation_pb2, inference_service_pb2
from chatmesh.inference.v1.inference_service_pb2_grpc import (
    InferenceServiceServicer,
    add_InferenceServiceServicer_to_server,
)
from chatmesh.moderation.v1 import moderation_service_pb2, review_service_pb2, verdict_pb2
from chatmesh.moderation.v1.moderation_service_pb2_grpc import (
    ModerationServiceServicer,
    add_ModerationServiceServicer_to_server,
)
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import DomainError, to_status
from tests.rpc.conversation.peers import PROMPT_TOKENS, Peer
from tests.rpc.conversation.scripted import DEADLINE_S, Method, eventually, metadata_of

Delta = generation_pb2.GenerationDelta
Result = moderation_service_pb2.SegmentResult
_END = object()


class Life:
    """One stream from its opening to its end: what came, and what is still to be said."""

    def __init__(self, context: Any) -> None:
        self.metadata = metadata_of(context)
        self.messages: list[Any] = []
        self.said: asyncio.Queue[Any] = asyncio.Queue()
        self.over = asyncio.Event()
        self.texts: defaultdict[str, str] = defaultdict(str)
        """By generation, the text that came to be checked."""
        self.complete: set[str] = set()
        """Generations whose last segment came."""

    async def run(self, read: Any, context: Any) -> AsyncIterator[Any]:
        reader = asyncio.create_task(read)
        try:
            while (message := await self.said.get()) is not _END:
                if isinstance(message, grpc.StatusCode):
                    await context.abort(message, "broken by the test")
                yield message
        finally:
            reader.cancel()
            self.over.set()


class FakeEngine(Peer, InferenceServiceServicer):
    """A replica that writes what the test tells it to."""

    def __init__(self, replica_id: str, journal: list[str]) -> None:
        super().__init__()
        self.replica_id = replica_id
        self.lives: list[Life] = []
        self.cancelled: list[str] = []
        self.unseen: asyncio.Queue[generation_pb2.GenerationStart] = asyncio.Queue()
        """Starts that the test has not looked at."""
        self._journal = journal
        self.running: dict[str, int] = {}
        """Tokens so far, by generation."""
        self.answers_cancels = True
        self._life_of: dict[str, Life] = {}
        self._prompts: dict[str, int] = {}

    def add_to(self, server: grpc.aio.Server) -> None:
        add_InferenceServiceServicer_to_server(self, server)

    async def next_start(self) -> generation_pb2.GenerationStart:
        """The next generation that was started here."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.unseen.get()

    def say(self, *deltas: Delta) -> None:
        """Send these as one message to each process that they are for."""
        of_life: dict[int, tuple[Life, list[Delta]]] = {}
        for delta in deltas:
            self.running[delta.generation_id] += delta.token_count
            if delta.HasField("end"):
                del self.running[delta.generation_id]
            life = self._life_of[delta.generation_id]
            of_life.setdefault(id(life), (life, []))[1].append(delta)
        for life, said in of_life.values():
            life.said.put_nowait(inference_service_pb2.GenerateResponse(deltas=said))

    def finish(self, generation_id: str, text: str = "", reason: Any = chat_pb2.FINISH_REASON_STOP) -> None:
        """End a generation, with its last text."""
        self.say(self.last(generation_id, text, reason))

    def last(
        self,
        generation_id: str,
        text: str = "",
        reason: Any = chat_pb2.FINISH_REASON_STOP,
        error: DomainError | None = None,
    ) -> Delta:
        delta = words(generation_id, text) if text else Delta(generation_id=generation_id)
        delta.end.finish_reason = reason
        delta.end.usage.prompt_tokens = self._prompts[generation_id]
        delta.end.usage.completion_tokens = self.running[generation_id] + delta.token_count
        if error is not None:
            delta.end.error.CopyFrom(to_status(error))
        return delta

    def break_off(self, code: Any = _END) -> None:
        """End the newest stream with all generations on it."""
        self._end(self.lives[-1])
        self.lives[-1].said.put_nowait(code)

    def _end(self, life: Life) -> None:
        for generation_id in [id_ for id_ in self.running if self._life_of[id_] is life]:
            del self.running[generation_id]

    async def was_cancelled(self, generation_id: str) -> None:
        await eventually(lambda: generation_id in self.cancelled, f"{generation_id} is cancelled")

    async def CountTokens(self, request: Any, context: Any) -> Any:
        raise AssertionError("conversation counts no tokens")

    async def Embed(self, request: Any, context: Any) -> Any:
        raise AssertionError("no test of this folder embeds")

    def WatchStatus(self, request: Any, context: Any) -> AsyncIterator[Any]:
        raise AssertionError("conversation watches nobody")

    async def Generate(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        life = Life(context)
        self.lives.append(life)
        try:
            async for message in life.run(self._read(life, requests), context):
                yield message
        finally:
            self._end(life)

    async def _read(self, life: Life, requests: Any) -> None:
        async for request in requests:
            life.messages.append(request)
            for start in request.starts:
                self._journal.append("inference.start")
                self.running[start.generation_id] = 0
                self._life_of[start.generation_id] = life
                # To an engine, what it continues belongs to the prompt.
                self._prompts[start.generation_id] = PROMPT_TOKENS + sum(
                    len(piece.token_ids) or len(piece.text.split()) for piece in start.continuation
                )
                self.unseen.put_nowait(start)
            for generation_id in request.cancels:
                self._journal.append("inference.cancel")
                self.cancelled.append(generation_id)
                if generation_id in self.running and self.answers_cancels:
                    self.finish(generation_id, reason=chat_pb2.FINISH_REASON_CANCELLED)

    def forget(self) -> None:
        self.cancelled.clear()
        self.running.clear()
        self.answers_cancels = True
        while not self.unseen.empty():
            self.unseen.get_nowait()


class FakeModeration(Peer, ModerationServiceServicer):
    """Checks input as queued. Of answers it clears all at once while `clears`; otherwise the test decides."""

    def __init__(self, journal: list[str]) -> None:
        super().__init__()
        self.check_input = Method("moderation.CheckInput", journal)
        self.classify = Method("moderation.Classify", journal)
        self.appeal = Method("moderation.AppealEvent", journal)
        self.lives: list[Life] = []
        self.clears = True
        self.broken: list[str] = []
        """What came that the contract forbids."""
        self.abandoned: list[str] = []
        self._journal = journal
        self._life_of: dict[str, Life] = {}

    @property
    def texts(self) -> dict[str, str]:
        """By generation, the text on the newest stream."""
        return self.lives[-1].texts if self.lives else {}

    def add_to(self, server: grpc.aio.Server) -> None:
        add_ModerationServiceServicer_to_server(self, server)
        # Of the review queue only what is asked for here.
        appeal: Any = grpc.unary_unary_rpc_method_handler(
            self.appeal.take,
            request_deserializer=review_service_pb2.AppealEventRequest.FromString,
            response_serializer=review_service_pb2.Event.SerializeToString,
        )
        forget = grpc.unary_unary_rpc_method_handler(
            self._forget_user,
            request_deserializer=review_service_pb2.ForgetUserRequest.FromString,
            response_serializer=review_service_pb2.ForgetUserResponse.SerializeToString,
        )
        methods = {"AppealEvent": appeal, "ForgetUser": forget}
        review = "chatmesh.moderation.v1.ReviewService"
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(review, methods)])

    async def _forget_user(self, request: Any, context: Any) -> Any:
        return review_service_pb2.ForgetUserResponse()

    async def CheckInput(self, request: Any, context: Any) -> Any:
        return await self.check_input.take(request, context)

    async def Classify(self, request: Any, context: Any) -> Any:
        return await self.classify.take(request, context)

    async def CheckStream(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        life = Life(context)
        self.lives.append(life)
        async for message in life.run(self._read(life, requests), context):
            yield message

    async def _read(self, life: Life, requests: Any) -> None:
        async for request in requests:
            life.messages.append(request)
            results = []
            ids = [segment.generation_id for segment in request.segments]
            if len(ids) != len(set(ids)) or not ids:
                self.broken.append(f"one message holds the segments of {ids}")
            for segment in request.segments:
                generation_id = segment.generation_id
                if segment.abandoned:
                    self._journal.append("moderation.abandon")
                    self.abandoned.append(generation_id)
                    life.texts.pop(generation_id, None)
                    continue
                self._life_of[generation_id] = life
                self._journal.append("moderation.last" if segment.last else "moderation.segment")
                if generation_id in life.complete:
                    self.broken.append(f"{generation_id} went on after its last segment")
                life.texts[generation_id] += segment.text
                if segment.last:
                    life.complete.add(generation_id)
                results.append(clear(generation_id, len(life.texts[generation_id]), done=segment.last))
            if self.clears and results:
                life.said.put_nowait(moderation_service_pb2.CheckStreamResponse(results=results))

    def say(self, *results: Result) -> None:
        """Send these as one message, to the process that asked last."""
        life = self.lives[-1]
        for result in results:
            life = self._life_of[result.generation_id]
        life.said.put_nowait(moderation_service_pb2.CheckStreamResponse(results=results))

    def break_off(self, code: Any = _END) -> None:
        """End the stream."""
        self.lives[-1].said.put_nowait(code)

    async def has(self, generation_id: str, text: str, *, complete: bool = False) -> None:
        """Wait until the text of an answer is here, on the newest stream."""
        await eventually(
            lambda: (
                self.texts.get(generation_id) == text
                and not (complete and generation_id not in self.lives[-1].complete)
            ),
            f"moderation has {text!r}; it has {self.texts.get(generation_id)!r}",
        )

    def forget(self) -> None:
        self.check_input.forget()
        self.classify.forget()
        self.appeal.forget()
        self.clears = True
        self.broken.clear()
        self.abandoned.clear()


def words(generation_id: str, text: str) -> Delta:
    """More text: a token a word."""
    return Delta(generation_id=generation_id, text=text, token_count=max(1, len(text.split())))


def tokens(generation_id: str, *pairs: tuple[str, int]) -> Delta:
    """More text, with the ids of its tokens."""
    return Delta(
        generation_id=generation_id,
        text="".join(text for text, _ in pairs),
        token_ids=[token_id for _, token_id in pairs],
        token_count=len(pairs),
    )


def clear(generation_id: str, watermark: int, *retractions: verdict_pb2.Retraction, done: bool = False) -> Result:
    """Clear up to here."""
    return Result(
        generation_id=generation_id, watermark=watermark, retractions=retractions, done=done, policy_version="p1"
    )


def redact(start: int, end: int, replacement: str = "[x]") -> verdict_pb2.Retraction:
    return verdict_pb2.Retraction(
        start=start, end=end, replacement=replacement, category="secrets", action=verdict_pb2.ACTION_REDACT
    )


def block(start: int, end: int) -> verdict_pb2.Retraction:
    return verdict_pb2.Retraction(start=start, end=end, category="violence", action=verdict_pb2.ACTION_BLOCK)


def allowed() -> moderation_service_pb2.CheckInputResponse:
    return moderation_service_pb2.CheckInputResponse(verdict=verdict_pb2.Verdict(action=verdict_pb2.ACTION_ALLOW))
