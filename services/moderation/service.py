"""The gRPC service of Moderation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from chatmesh.moderation.v1 import moderation_service_pb2
from chatmesh.moderation.v1.moderation_service_pb2_grpc import ModerationServiceServicer
from services.moderation import convert
from services.moderation.answers import Answers, merge
from services.moderation.events import Events
from services.moderation.guard.offers import GuardOffers
from services.moderation.input_check import InputCheck
from services.moderation.judge import InputTexts
from services.moderation.metrics import ModerationMetrics
from services.moderation.model import Action, Direction, Progress, Subject
from services.moderation.policy import Policy
from services.moderation.scoring import Scoring
from services.runtime.identity import Identity, current_identity
from services.runtime.mux import Outbox, OutboxClosed


class ModerationServicer(ModerationServiceServicer):
    """Serves `chatmesh.moderation.v1.ModerationService`. `policy` gives the one in force."""

    def __init__(
        self,
        *,
        policy: Callable[[], Policy],
        input_check: InputCheck,
        scoring: Scoring | None,
        events: Events,
        metrics: ModerationMetrics,
        offers: GuardOffers | None = None,
    ) -> None:
        self._policy = policy
        self._offers = offers
        self._input_check = input_check
        self._scoring = scoring
        self._events = events
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
        identity = current_identity() or Identity("")
        policy = self._policy()
        user_policy = policy.for_user(tenant_id=identity.tenant_id, tier=identity.tier)
        texts = convert.input_from(request)
        verdict = await self._input_check.check(texts, user_policy)
        self._metrics.input_judged(verdict)
        subject = Subject(
            request.generation_id,
            request.conversation_id,
            identity.user_id,
            identity.tenant_id,
            identity.tier,
            identity.residency,
        )
        event_id = self._events.record(
            policy,
            subject=subject,
            direction=Direction.INPUT,
            action=verdict.action,
            findings=verdict.findings,
            text=texts.texts[-1],
        )
        if self._offers is not None and not texts.last_is_untrusted:
            self._offers.input(policy, verdict, subject=subject, text=texts.texts[-1])
        return moderation_service_pb2.CheckInputResponse(
            verdict=convert.verdict_to(verdict, request=request, policy_version=policy.version, event_id=event_id),
            availability=convert.availability_to(user_policy),
        )

    async def Classify(
        self, request: moderation_service_pb2.ClassifyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> moderation_service_pb2.ClassifyResponse:
        """Says what is in texts, each by itself."""
        identity = current_identity() or Identity("")
        policy = self._policy()
        user_policy = policy.for_user(tenant_id=identity.tenant_id, tier=identity.tier)
        # One after the other: what somebody asks for wholesale must not keep turns waiting.
        judged = [await self._input_check.judging(InputTexts([text]), user_policy) for text in request.texts]
        return moderation_service_pb2.ClassifyResponse(
            classifications=[
                convert.classification_to(
                    judging.scores(),
                    {f.outcome.category for f in judging.verdict().findings if f.outcome.action > Action.ALLOW},
                )
                for judging in judged
            ],
            policy_version=policy.version,
            classifier_version=self._scoring.version if self._scoring is not None else "",
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
                yield convert.progress_to(merge(await outbox.drain()))
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
        answers = Answers(
            policy=self._policy,
            scoring=self._scoring,
            events=self._events,
            metrics=self._metrics,
            offers=self._offers,
            on_progress=lambda generation_id, progress: outbox.put((generation_id, progress)),
        )
        try:
            async for request in requests:
                started = time.perf_counter()
                for segment in request.segments:
                    answers.take(convert.segment_from(segment))
                self._metrics.scanned(Direction.OUTPUT, seconds=time.perf_counter() - started)
            # The peer has said all; what it is still owed comes when the classifier has spoken.
            await answers.settled()
        finally:
            answers.close()
            outbox.close()
