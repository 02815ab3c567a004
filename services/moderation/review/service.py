"""`chatmesh.moderation.v1.ReviewService`: convert, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import grpc

from chatmesh.moderation.v1 import review_service_pb2 as pb
from chatmesh.moderation.v1.review_service_pb2_grpc import ReviewServiceServicer
from services.moderation.review import convert
from services.moderation.review.metrics import ReviewMetrics
from services.moderation.review.restoration import Restoration
from services.moderation.review.schema import Schema
from services.moderation.review.store import FIRST_ID, EventStore
from services.runtime.clock import Clock
from services.runtime.identity import require_identity
from services.runtime.paging import DEFAULT_PAGE_SIZE, decode_page_token, encode_page_token

Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_LEASE_S = 900
MESSAGE_CHARACTERS = 500_000
"""Characters after which the rows of an export go into a message of their own."""


class ReviewServicer(ReviewServiceServicer):
    """Serves reviewers. Every method raises DEPENDENCY_UNAVAILABLE when the database is away."""

    def __init__(
        self, *, schema: Schema, store: EventStore, restoration: Restoration, metrics: ReviewMetrics, clock: Clock
    ) -> None:
        self._schema = schema
        self._store = store
        self._restoration = restoration
        self._metrics = metrics
        self._clock = clock

    async def ListEvents(self, request: pb.ListEventsRequest, context: Context) -> pb.ListEventsResponse:
        """Lists events."""
        self._schema.require()
        size = request.page_size or DEFAULT_PAGE_SIZE
        scope = [
            *("events", str(request.state), request.category, request.user_id, request.generation_id),
            str(request.appealed),
        ]
        rows = await self._store.list(
            convert.selection_from(request),
            reviewer=request.reviewer,
            limit=size + 1,
            before=decode_page_token(request.page_token, scope=scope, read=_position),
        )
        page = rows[:size]
        token = ""
        if len(rows) > size:
            last = page[-1].event
            token = encode_page_token([last.created_at.isoformat(), last.event_id], scope=scope)
        return pb.ListEventsResponse(events=[convert.event_to(event) for event in page], next_page_token=token)

    async def GetEvent(self, request: pb.GetEventRequest, context: Context) -> pb.Event:
        """Shows one event."""
        self._schema.require()
        return convert.event_to(await self._store.get(request.event_id, reviewer=request.reviewer))

    async def ClaimEvent(self, request: pb.ClaimEventRequest, context: Context) -> pb.Event:
        """Takes one event."""
        self._schema.require()
        lease = timedelta(seconds=request.lease_seconds or DEFAULT_LEASE_S)
        return convert.event_to(await self._store.claim(request.event_id, reviewer=request.reviewer, lease=lease))

    async def ReleaseEvent(self, request: pb.ReleaseEventRequest, context: Context) -> pb.Event:
        """Gives one event back."""
        self._schema.require()
        return convert.event_to(await self._store.release(request.event_id, reviewer=request.reviewer))

    async def DecideEvent(self, request: pb.DecideEventRequest, context: Context) -> pb.Event:
        """Decides on one event."""
        decision = convert.decision_from(request)
        self._schema.require()
        event = await self._store.decide(
            request.event_id,
            reviewer=request.reviewer,
            decision=decision,
            comment=request.comment,
            category=request.category,
        )
        self._restoration.wake()
        self._metrics.decided(event, decision)
        return convert.event_to(event)

    async def AppealEvent(self, request: pb.AppealEventRequest, context: Context) -> pb.Event:
        """Asks for another look at one event."""
        self._schema.require()
        return convert.event_to(
            await self._store.appeal(request.event_id, user_id=request.user_id, appeal=request.appeal)
        )

    async def ListEventAudit(self, request: pb.ListEventAuditRequest, context: Context) -> pb.ListEventAuditResponse:
        """Says who has done what with an event."""
        self._schema.require()
        entries = await self._store.audit(request.event_id)
        return pb.ListEventAuditResponse(entries=[convert.audit_to(entry) for entry in entries])

    async def ExportDecisions(
        self, request: pb.ExportDecisionsRequest, context: Context
    ) -> AsyncIterator[pb.ExportDecisionsResponse]:
        """Gives decisions as training data. What is decided meanwhile is not among them."""
        self._schema.require()
        until = self._clock.now()
        since = request.since.ToDatetime(UTC) if request.HasField("since") else datetime.min.replace(tzinfo=UTC)
        after = (since, FIRST_ID)
        while texts := await self._store.export(reviewer=request.reviewer, after=after, until=until):
            after = (texts[-1].decided_at, texts[-1].event_id)
            response = pb.ExportDecisionsResponse()
            characters = 0
            for text in texts:
                response.rows.append(convert.training_row_to(text))
                characters += len(text.text)
                if characters > MESSAGE_CHARACTERS:
                    yield response
                    response, characters = pb.ExportDecisionsResponse(), 0
            if response.rows:
                yield response

    async def ForgetUser(self, request: pb.ForgetUserRequest, context: Context) -> pb.ForgetUserResponse:
        """Deletes what is stored of the caller."""
        self._schema.require()
        return pb.ForgetUserResponse(events=await self._store.delete_user(require_identity().user_id))


def _position(time: str, event_id: str) -> tuple[datetime, str]:
    return datetime.fromisoformat(time).astimezone(UTC), str(UUID(event_id))
