"""The services around Conversation, on real ports: each answers what the test queued."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from chatmesh.context.v1 import context_service_pb2 as context_pb2
from chatmesh.context.v1.context_service_pb2_grpc import ContextServiceServicer, add_ContextServiceServicer_to_server
from chatmesh.router.v1 import fleet_pb2, model_pb2, router_service_pb2
from chatmesh.router.v1.router_service_pb2_grpc import RouterServiceServicer, add_RouterServiceServicer_to_server
from chatmesh.type.v1 import chat_pb2, route_pb2
from chatmesh.usage.v1 import usage_service_pb2
from chatmesh.usage.v1.usage_service_pb2_grpc import UsageServiceServicer, add_UsageServiceServicer_to_server
from tests.rpc.conversation.scripted import Method, eventually, metadata_of

CONTEXT_LENGTH = 1000
PROMPT_TOKENS = 40
MODEL = "small"


class Peer:
    """A server that can go away and come back at the same address."""

    def __init__(self) -> None:
        self.port = 0
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.add_to(self._server)
        healthy = health.aio.HealthServicer()
        await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(healthy, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Go away at once, as a process that is killed."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def add_to(self, server: grpc.aio.Server) -> None:
        raise NotImplementedError


class FakeUsage(Peer, UsageServiceServicer):
    """Grants what is queued; keeps a ledger of what was settled, each generation once, as the real one does."""

    def __init__(self, journal: list[str]) -> None:
        super().__init__()
        self.acquire = Method("usage.Acquire", journal)
        self.granted: set[str] = set()
        self.ledger: dict[str, usage_service_pb2.UsageRecord] = {}
        self.settles: list[list[str]] = []
        """The generations of each call of Settle."""
        self.forgotten: list[str] = []
        self.lose_replies = 0
        """So many of the next calls of Settle are stored and then fail."""

    def add_to(self, server: grpc.aio.Server) -> None:
        add_UsageServiceServicer_to_server(self, server)

    async def Acquire(self, request: usage_service_pb2.AcquireRequest, context: Any) -> Any:
        response = await self.acquire.take(request, context)
        self.granted.add(request.generation_id)
        return response

    async def GetUsage(self, request: usage_service_pb2.GetUsageRequest, context: Any) -> Any:
        raise AssertionError("conversation does not ask what was used")

    async def Settle(self, request: usage_service_pb2.SettleRequest, context: Any) -> Any:
        self.settles.append([record.generation_id for record in request.records])
        for record in request.records:
            known = self.ledger.setdefault(record.generation_id, record)
            # A record that comes again says the same again.
            assert known.usage == record.usage
            assert known.user_id == record.user_id
        if self.lose_replies:
            self.lose_replies -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the reply is lost")
        return usage_service_pb2.SettleResponse(recorded=len(request.records))

    async def ForgetUser(self, request: usage_service_pb2.ForgetUserRequest, context: Any) -> Any:
        self.forgotten.append(str(metadata_of(context)["x-chatmesh-user"]))
        return usage_service_pb2.ForgetUserResponse()

    async def settled(self, generation_id: str) -> usage_service_pb2.UsageRecord:
        await eventually(lambda: generation_id in self.ledger, f"{generation_id} is settled")
        return self.ledger[generation_id]

    def forget(self) -> None:
        self.acquire.forget()
        self.granted.clear()
        self.ledger.clear()
        self.settles.clear()
        self.forgotten.clear()
        self.lose_replies = 0


class FakeRouter(Peer, RouterServiceServicer):
    def __init__(self, journal: list[str]) -> None:
        super().__init__()
        self.route = Method("router.Route", journal)

    def add_to(self, server: grpc.aio.Server) -> None:
        add_RouterServiceServicer_to_server(self, server)

    async def ListModels(self, request: router_service_pb2.ListModelsRequest, context: Any) -> Any:
        raise AssertionError("no test of this folder lists models")

    def WatchFleet(self, request: fleet_pb2.WatchFleetRequest, context: Any) -> AsyncIterator[Any]:
        raise AssertionError("conversation does not look at the fleet")

    async def Route(self, request: router_service_pb2.RouteRequest, context: Any) -> Any:
        return await self.route.take(request, context)


class FakeContext(Peer, ContextServiceServicer):
    """Answers `start` by what is queued: a prompt goes out once the target is known.

    An int asks for that many messages of the history first.
    """

    def __init__(self, journal: list[str]) -> None:
        super().__init__()
        self.assemble = Method("context.AssembleContext", journal)
        self.pages: list[context_pb2.HistoryPage] = []
        self.targets: list[context_pb2.ContextTarget] = []

    def add_to(self, server: grpc.aio.Server) -> None:
        add_ContextServiceServicer_to_server(self, server)

    async def AssembleContext(
        self, requests: AsyncIterator[context_pb2.AssembleContextRequest], context: Any
    ) -> AsyncIterator[context_pb2.AssembleContextResponse]:
        response = context_pb2.AssembleContextResponse
        start = (await anext(requests)).start
        reply = await self.assemble.take(start, context)
        target: context_pb2.ContextTarget | None = None
        while isinstance(reply, int):
            yield response(history_request=context_pb2.HistoryRequest(max_messages=reply))
            said = await anext(requests)
            if said.HasField("target"):
                target = said.target
                said = await anext(requests)
            self.pages.append(said.history_page)
            reply = await self.assemble.take(start, context)
        self.targets.append(target or (await anext(requests)).target)
        yield response(assembled=reply)

    def forget(self) -> None:
        self.assemble.forget()
        self.pages.clear()
        self.targets.clear()


# What the fakes say when nothing else is asked of them.


def granted(tokens: int = 100_000) -> usage_service_pb2.AcquireResponse:
    return usage_service_pb2.AcquireResponse(granted_tokens=tokens)


def routed(address: str, replica_id: str, *, model: str = MODEL) -> router_service_pb2.RouteResponse:
    return router_service_pb2.RouteResponse(
        lease=router_service_pb2.RouteLease(lease_id="lease", replica_id=replica_id, address=address),
        receipt=route_pb2.RouteReceipt(
            requested_model="auto", model=model, engine="synthetic", replica_id=replica_id, rule="only"
        ),
        model=model_pb2.Model(name=model, context_length=CONTEXT_LENGTH, max_output_tokens=200),
    )


def assembled(*texts: str, truncated: bool = False) -> context_pb2.AssembledContext:
    """A prompt of a system message and then users' messages."""
    return context_pb2.AssembledContext(
        messages=[
            chat_pb2.ChatMessage(role=chat_pb2.ROLE_SYSTEM, content="Be brief."),
            *(chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content=text) for text in texts),
        ],
        prompt_tokens=PROMPT_TOKENS,
        available_output_tokens=CONTEXT_LENGTH - PROMPT_TOKENS,
        truncated=truncated,
    )
