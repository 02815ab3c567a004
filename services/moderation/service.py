"""The gRPC service of Moderation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc

from chatmesh.moderation.v1 import moderation_service_pb2
from chatmesh.moderation.v1.moderation_service_pb2_grpc import ModerationServiceServicer
from services.moderation import convert
from services.moderation.answers import Answers, merge
from services.moderation.input_check import check_input
from services.moderation.metrics import ModerationMetrics
from services.moderation.model import Direction, Progress
from services.moderation.policy import Policy
from services.runtime.mux import Outbox, OutboxClosed

_THREAD_FROM = 50_000
"""Code points of input from which the search would hold up the streams noticeably and goes to a thread."""


class ModerationServicer(ModerationServiceServicer):
    """Serves `chatmesh.moderation.v1.ModerationService`."""

    def __init__(self, *, policy: Policy, metrics: ModerationMetrics) -> None:
        self._policy = policy
        self._metrics = metrics
        self._streams: set[Outbox[tuple[str, Progress]]] = set()

    async def drain(self) -> None:
        """End the streams: a peer opens a new one, to another replica, and sends its answers again."""
        for outbox in self._streams:
            outbox.close()

    async def CheckInput(
        self, request: moderation_service_pb2.CheckInputRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> moderation_service_pb2.CheckInputResponse:
        """Judges what a user sends."""
        texts = list(request.texts)
        started = time.perf_counter()
        if sum(map(len, texts)) < _THREAD_FROM:
            verdict = check_input(texts, self._policy.input_rules)
        else:
            verdict = await asyncio.to_thread(check_input, texts, self._policy.input_rules)
        self._metrics.scanned(Direction.INPUT, seconds=time.perf_counter() - started)
        self._metrics.judged(Direction.INPUT, verdict.action)
        for finding in verdict.findings:
            self._metrics.found(Direction.INPUT, finding.outcome)
        return moderation_service_pb2.CheckInputResponse(
            verdict=convert.verdict_to(verdict, policy_version=self._policy.version)
        )

    async def CheckStream(
        self,
        request_iterator: AsyncIterator[moderation_service_pb2.CheckStreamRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[moderation_service_pb2.CheckStreamResponse]:
        """Judges the answers of a peer while they are written."""
        outbox: Outbox[tuple[str, Progress]] = Outbox()
        self._streams.add(outbox)
        reader = asyncio.create_task(self._read(request_iterator, outbox), name="segments")
        try:
            while True:
                progress = merge(await outbox.drain())
                yield convert.progress_to(progress, policy_version=self._policy.version)
        except OutboxClosed:
            if reader.done():
                # What ended the peer's side may be an error to answer with.
                reader.result()
        finally:
            self._streams.discard(outbox)
            reader.cancel()

    async def _read(
        self,
        requests: AsyncIterator[moderation_service_pb2.CheckStreamRequest],
        outbox: Outbox[tuple[str, Progress]],
    ) -> None:
        answers = Answers(policy=self._policy, on_done=lambda action: self._metrics.judged(Direction.OUTPUT, action))
        try:
            async for request in requests:
                started = time.perf_counter()
                for segment in request.segments:
                    progress = answers.take(convert.segment_from(segment))
                    if progress is not None:
                        outbox.put((segment.generation_id, progress))
                        for retraction in progress.retractions:
                            self._metrics.found(Direction.OUTPUT, retraction.outcome)
                self._metrics.scanned(Direction.OUTPUT, seconds=time.perf_counter() - started)
        finally:
            outbox.close()
