"""The Moderation process with its database and its Redis, and somebody who reviews."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from redis.asyncio import Redis

from chatmesh.moderation.v1 import late_verdict_pb2
from chatmesh.moderation.v1 import review_service_pb2 as pb
from chatmesh.moderation.v1.review_service_pb2_grpc import ReviewServiceStub
from services.moderation.late.publisher import FIELD, STREAM
from services.moderation.model import Event
from services.moderation.review.schema import MIGRATIONS
from services.moderation.review.store import EventStore
from services.runtime.clock import SystemClock
from services.runtime.database import Database
from services.runtime.errors import DomainError, from_rpc_error
from services.runtime.migrations import migrate
from services.runtime.redis import connect_redis
from tests.rpc.service_process import ServiceProcess, running
from tests.store.moderation.events import event

if TYPE_CHECKING:
    from chatmesh.moderation.v1.review_service_pb2_grpc import ReviewServiceAsyncStub

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


@contextmanager
def moderation_process(database_url: str, redis_url: str, **environment: str) -> Iterator[ServiceProcess]:
    with running(
        "moderation", {"CHATMESH_DATABASE_URL": database_url, "CHATMESH_REDIS_URL": redis_url, **environment}
    ) as service:
        yield service


def today(**about: Any) -> Event:
    """An event of now: the process has no clock but the real one."""
    return event(at=SystemClock().now(), **about)


async def insert(database_url: str, *events: Event) -> None:
    """Put events into the database, as the process does itself."""
    await migrate(database_url, schema="moderation", directory=MIGRATIONS)
    async with Database(database_url) as database:
        await EventStore(database=database, clock=SystemClock()).record(events)


async def late_verdicts(redis_url: str) -> list[late_verdict_pb2.LateVerdict]:
    """What was published so far."""
    async with connect_redis(redis_url) as redis:
        return await read_late(redis)


async def read_late(redis: Redis) -> list[late_verdict_pb2.LateVerdict]:
    entries: Any = await redis.xrange(STREAM)
    return [late_verdict_pb2.LateVerdict.FromString(fields[FIELD.encode()]) for _, fields in entries]


async def ask(method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT], request: RequestT) -> ResponseT:
    """Call a method; errors are DomainErrors."""
    try:
        return await method(request, timeout=20)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, service="moderation") from error


@dataclass
class Reviewer:
    """Somebody who looks at events; errors are DomainErrors."""

    stub: ReviewServiceAsyncStub
    name: str = "rita"

    def named(self, name: str) -> Reviewer:
        return Reviewer(self.stub, name)

    async def page(self, **about: Any) -> pb.ListEventsResponse:
        return await ask(self.stub.ListEvents, pb.ListEventsRequest(reviewer=self.name, **about))

    async def listed(self, **about: Any) -> list[str]:
        return [listed.event_id for listed in (await self.page(**about)).events]

    async def show(self, event_id: str) -> pb.Event:
        return await ask(self.stub.GetEvent, pb.GetEventRequest(reviewer=self.name, event_id=event_id))

    async def claim(self, event_id: str = "", *, lease_s: int = 0) -> pb.Event:
        request = pb.ClaimEventRequest(reviewer=self.name, event_id=event_id, lease_seconds=lease_s)
        return await ask(self.stub.ClaimEvent, request)

    async def release(self, event_id: str) -> pb.Event:
        return await ask(self.stub.ReleaseEvent, pb.ReleaseEventRequest(reviewer=self.name, event_id=event_id))

    async def decide(self, event_id: str, decision: pb.Decision, **about: Any) -> pb.Event:
        request = pb.DecideEventRequest(reviewer=self.name, event_id=event_id, decision=decision, **about)
        return await ask(self.stub.DecideEvent, request)

    async def appeal(self, event_id: str, *, user: str, words: str = "it was a joke") -> pb.Event:
        request = pb.AppealEventRequest(event_id=event_id, user_id=user, appeal=words)
        return await ask(self.stub.AppealEvent, request)

    async def audit(self, event_id: str) -> list[tuple[str, str]]:
        request = pb.ListEventAuditRequest(reviewer=self.name, event_id=event_id)
        entries = (await ask(self.stub.ListEventAudit, request)).entries
        return [(entry.actor, entry.what) for entry in entries]

    async def export(self, **about: Any) -> list[pb.TrainingRow]:
        stream = self.stub.ExportDecisions(pb.ExportDecisionsRequest(reviewer=self.name, **about), timeout=20)
        try:
            return [row async for response in stream for row in response.rows]
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, service="moderation") from error

    async def answers(self) -> bool:
        """Whether the queue can be asked."""
        try:
            await self.page()
        except DomainError:
            return False
        return True


@asynccontextmanager
async def reviewing(service: ServiceProcess) -> AsyncIterator[Reviewer]:
    async with grpc.aio.insecure_channel(service.address()) as channel:
        yield Reviewer(ReviewServiceStub(channel))
