"""The Moderation service: one stream carries the answers of all of this process's generations."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc

from chatmesh.moderation.v1.moderation_service_pb2_grpc import ModerationServiceStub
from services.conversation.peers.convert import (
    Retraction,
    abandonment,
    check_stream_requests,
    input_check,
    is_block,
    is_redact,
    retractions_from_pb,
    segment,
)
from services.runtime.client import call_unary, open_stream
from services.runtime.errors import DomainError, Reason
from services.runtime.pacing import Pacer

_log = logging.getLogger(__name__)

TIMEOUT_S = 3.0
RECONNECT_S = 0.1
GIVE_UP_S = 5.0
"""How long answers wait for a lost stream to come back before they fail."""
ESTABLISHED_S = 1.0
"""A stream that lasts so long had a peer, even when that had nothing to say: one that has none fails at once."""


class ModeratedAnswer(Protocol):
    """An answer that is being checked. The methods return at once."""

    generation_id: str

    def take_segment(self) -> tuple[str, bool]:
        """The text that was not sent yet, and whether it is the last."""
        ...

    def rewind(self) -> None:
        """Make `take_segment` begin again at the start of the answer."""
        ...

    def on_verdict(self, watermark: int, retractions: Sequence[Retraction], *, done: bool) -> None:
        """What has been decided."""
        ...

    def on_moderation_lost(self, error: DomainError) -> None:
        """Nothing more will be decided."""
        ...


@dataclass(frozen=True, slots=True)
class InputVerdict:
    """The judgement of what a user sent: the text to go on with, None when it is as it was sent."""

    redacted: str | None


class ModerationPeer:
    """Checks what goes in and what comes out. Run `run` as a task."""

    def __init__(self, channel: grpc.aio.Channel, *, pacer: Pacer) -> None:
        self._stub = ModerationServiceStub(channel)
        self._pacer = pacer
        self._answers: dict[str, ModeratedAnswer] = {}
        self._dirty: dict[str, ModeratedAnswer | None] = {}
        """Answers with something to send; None for one that was abandoned."""
        self._wake = asyncio.Event()
        self._urgent = asyncio.Event()

    async def check_input(self, *, generation_id: str, texts: Sequence[str]) -> InputVerdict:
        """Check what a user sends; the last text is the new one.

        Raises:
            DomainError: CONTENT_BLOCKED.
        """
        response = await call_unary(
            self._stub.CheckInput,
            input_check(generation_id=generation_id, texts=texts),
            timeout_s=TIMEOUT_S,
            service="moderation",
        )
        verdict = response.verdict
        if is_block(verdict.action):
            category = next((f.category for f in verdict.findings if is_block(f.action)), "")
            raise content_blocked("This message", category, verdict.policy_version)
        return InputVerdict(verdict.redacted_text if is_redact(verdict.action) else None)

    def submit(self, answer: ModeratedAnswer) -> None:
        """Say that an answer has something to send. The first time, it is sent without gathering."""
        generation_id = answer.generation_id
        if generation_id not in self._answers:
            self._answers[generation_id] = answer
            self._urgent.set()
        self._dirty[generation_id] = answer
        self._wake.set()

    def abandon(self, generation_id: str) -> None:
        """Forget an answer."""
        if self._answers.pop(generation_id, None) is not None:
            self._dirty[generation_id] = None
            self._wake.set()

    async def run(self) -> None:
        """Keep the stream open for ever."""
        loop = asyncio.get_running_loop()
        lost_since: float | None = None
        while True:
            if not self._answers:
                lost_since = None
                await self._wake.wait()
            opened = loop.time()
            answered = await self._stream()
            if answered or lost_since is None or loop.time() - opened > ESTABLISHED_S:
                lost_since = loop.time()
            if loop.time() - lost_since > GIVE_UP_S:
                self._lose_all()
            for answer in self._answers.values():
                answer.rewind()
                self._dirty[answer.generation_id] = answer
                self._wake.set()
            await asyncio.sleep(RECONNECT_S)

    async def _stream(self) -> bool:
        """One life of the stream. Returns whether anything came back on it."""
        call = open_stream(self._stub.CheckStream, timeout_s=None, service="moderation")
        writer = asyncio.create_task(self._write(call), name="moderation-writer")
        answered = False
        try:
            async for response in call:
                answered = True
                for result in response.results:
                    answer = self._answers.get(result.generation_id)
                    if answer is None:
                        continue
                    retractions = retractions_from_pb(result.retractions, result.policy_version)
                    answer.on_verdict(result.watermark, retractions, done=result.done)
                    if result.done:
                        # The checker keeps what it ended itself until it is told that nobody wants to know.
                        self.abandon(result.generation_id)
        except grpc.aio.AioRpcError as error:
            _log.warning("moderation stream lost", extra={"code": error.code().name})
        finally:
            writer.cancel()
            call.cancel()
        return answered

    async def _write(self, call: grpc.aio.StreamStreamCall) -> None:  # type: ignore[type-arg]
        try:
            while True:
                await self._wake.wait()
                await self._gather()
                self._wake.clear()
                dirty, self._dirty = self._dirty, {}
                segments = []
                for generation_id, answer in dirty.items():
                    if answer is None:
                        segments.append(abandonment(generation_id))
                    else:
                        text, last = answer.take_segment()
                        segments.append(segment(generation_id, text, last=last))
                for request in check_stream_requests(segments):
                    await call.write(request)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The reader hears of it too, and says why.
            _log.debug("moderation stream is gone")

    async def _gather(self) -> None:
        """Let more gather while this process is busy, but let nobody wait for a first token."""
        if self._pacer.linger_s > 0 and not self._urgent.is_set():
            try:
                async with asyncio.timeout(self._pacer.linger_s):
                    await self._urgent.wait()
            except TimeoutError:
                pass
        self._urgent.clear()

    def _lose_all(self) -> None:
        answers, self._answers = self._answers, {}
        self._dirty.clear()
        for answer in answers.values():
            answer.on_moderation_lost(
                DomainError(
                    Reason.DEPENDENCY_UNAVAILABLE,
                    "The answer could not be checked, so it was not shown; try again shortly.",
                    metadata={"service": "moderation"},
                )
            )


def content_blocked(what: str, category: str, policy_version: str) -> DomainError:
    """The error for a text that the policy refuses."""
    return DomainError(
        Reason.CONTENT_BLOCKED,
        f"{what} was refused by the content policy ({category}).",
        metadata={"category": category, "policy_version": policy_version},
    )
