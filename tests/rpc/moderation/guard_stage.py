"""The Moderation process with a guard model: a Router and a replica of which the test holds the strings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
from prometheus_client.parser import text_string_to_metric_families

from chatmesh.inference.v1.generation_pb2 import GenerationStart
from chatmesh.moderation.v1 import moderation_service_pb2 as pb
from chatmesh.moderation.v1 import verdict_pb2
from chatmesh.moderation.v1.moderation_service_pb2_grpc import ModerationServiceStub
from services.moderation.guard.offers import STREAM
from services.moderation.guard.worker import GROUP
from services.runtime.errors import DomainError
from services.runtime.interceptor import abort
from services.runtime.redis import connect_redis
from tests.rpc.conversation.peers import FakeRouter, routed
from tests.rpc.conversation.scripted import metadata_of
from tests.rpc.conversation.streams import FakeEngine
from tests.rpc.moderation.review_stage import moderation_process
from tests.rpc.service_process import ServiceProcess
from tests.store.moderation.events import eventually

if TYPE_CHECKING:
    from chatmesh.moderation.v1.moderation_service_pb2_grpc import ModerationServiceAsyncStub

USER = (
    ("x-chatmesh-user", "ann"),
    ("x-chatmesh-tier", "plus"),
    ("x-chatmesh-tenant", "acme"),
    ("x-chatmesh-residency", "eu"),
)

POLICY = """
version: guarded
review: {{record: warn, queue: hold, keep_text: queued}}
guard: {{model: guard-model, template: {template}, unsure_from: {unsure}, background: {background}, timeout_ms: {ms}}}
categories:
  violence:
    input: {{action: block, threshold: 1.0}}
    output: {{action: hold, threshold: 1.0, replacement: "[taken back]"}}
  self-harm:
    input: {{action: warn, note: "Answer with care."}}
    output: {{action: warn}}
  hate:
    input: {{action: allow}}
    output: {{action: allow}}
  secrets:
    input: {{action: redact, replacement: "[key]"}}
    output: {{action: redact, replacement: "[key]"}}
    rules: [{{name: key, pattern: 'key-[0-9]{{4}}'}}]
"""


class Router(FakeRouter):
    """Sends everything to one replica, unless the next answers are said."""

    def __init__(self, engine: FakeEngine) -> None:
        super().__init__([])
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.refusals: list[DomainError] = []
        self._engine = engine

    async def Route(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        self.metadata.append(metadata_of(context))
        if self.refusals:
            await abort(context, self.refusals.pop(0))
        return routed(self._engine.address, self._engine.replica_id, model=request.model)


@dataclass
class GuardStage:
    """`write_policy` before a process is started."""

    database_url: str
    redis_url: str
    folder: Path
    engine: FakeEngine = field(default_factory=lambda: FakeEngine("guard-a", []))
    router: Router = field(init=False)

    def __post_init__(self) -> None:
        self.router = Router(self.engine)

    def write_policy(
        self, *, unsure: float = 1.0, background: float = 0.0, ms: int = 20_000, template: str = "llama_guard_3"
    ) -> None:
        text = POLICY.format(unsure=unsure, background=background, ms=ms, template=template)
        (self.folder / "policy.yaml").write_text(text)

    @asynccontextmanager
    async def process(self, *, redis_url: str = "") -> AsyncIterator[Asked]:
        with moderation_process(
            self.database_url,
            redis_url or self.redis_url,
            CHATMESH_POLICY_FILE=str(self.folder / "policy.yaml"),
            CHATMESH_ROUTER_ADDRESS=self.router.address,
        ) as service:
            async with grpc.aio.insecure_channel(service.address()) as channel:
                yield Asked(service, ModerationServiceStub(channel))

    async def reply(self, text: str) -> GenerationStart:
        """Have the guard say this to the next question; returns what it was asked."""
        start = await self.engine.next_start()
        self.engine.finish(start.generation_id, text)
        return start

    async def jobs_are_gone(self) -> None:
        """No text waits, and none is in anybody's hands."""
        async with connect_redis(self.redis_url) as redis:

            async def gone() -> bool:
                if not await redis.exists(STREAM) or not await redis.xinfo_groups(STREAM):
                    return False
                pending: Any = await redis.xpending(STREAM, GROUP)
                return await redis.xlen(STREAM) == 0 and pending["pending"] == 0

            await eventually(gone, "the jobs are gone")

    async def redis_holds(self, *texts: str) -> bool:
        """Whether any of the texts stands in any stream; nothing else is in there."""
        async with connect_redis(self.redis_url) as redis:
            entries: list[Any] = []
            for key in await redis.keys():
                assert await redis.type(key) == b"stream"
                found: Any = await redis.xrange(key)
                entries += found
        held = b"".join(value for _, fields in entries for value in fields.values())
        return any(text.encode() in held for text in texts)


@dataclass
class Asked:
    """One process."""

    service: ServiceProcess
    stub: ModerationServiceAsyncStub

    async def check(self, text: str, *, generation_id: str = "g", timeout_s: float = 20) -> verdict_pb2.Verdict:
        request = pb.CheckInputRequest(generation_id=generation_id, texts=[text], conversation_id="c")
        return (await self.stub.CheckInput(request, metadata=USER, timeout=timeout_s)).verdict

    async def answer(self, text: str, *, generation_id: str = "g") -> pb.SegmentResult:
        """Have an answer checked to its end."""
        stream = self.stub.CheckStream(timeout=20)
        context = pb.GenerationContext(
            user_id="ann", tier="plus", tenant_id="acme", conversation_id="c", residency="eu"
        )
        segment = pb.Segment(generation_id=generation_id, text=text, last=True, context=context)
        await stream.write(pb.CheckStreamRequest(segments=[segment]))
        await stream.done_writing()
        result = None
        async for response in stream:
            (result,) = response.results
        assert result is not None
        assert result.done
        return result

    async def counted(self, name: str, **labels: str) -> float:
        """What a counter has counted under these labels."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://{self.service.address('metrics_address')}/metrics")).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"chatmesh_moderation_{name}_total" and labels.items() <= sample.labels.items()
        )


def guard_layer(verdict: verdict_pb2.Verdict) -> verdict_pb2.LayerResult:
    """What a verdict says of the guard, which was asked."""
    (found,) = [result for result in verdict.layers if result.layer == verdict_pb2.LAYER_GUARD]
    return found


@asynccontextmanager
async def guard_stage(database_url: str, redis_url: str, folder: Path) -> AsyncIterator[GuardStage]:
    stage = GuardStage(database_url, redis_url, folder)
    await stage.engine.start()
    await stage.router.start()
    try:
        yield stage
    finally:
        await stage.router.stop()
        await stage.engine.stop()
