"""The Router's gRPC service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
from opentelemetry import trace

from chatmesh.router.v1 import fleet_pb2, router_service_pb2
from chatmesh.router.v1.router_service_pb2_grpc import RouterServiceServicer
from services.router import convert
from services.router.fleet import Fleet
from services.router.meaning import pool_preferences
from services.router.metrics import RouterMetrics
from services.router.registry_file import RegistrySource
from services.router.route import RouteGeneration
from services.runtime.clock import Clock
from services.runtime.errors import DomainError
from services.runtime.identity import current_identity

DEFAULT_INTERVAL_MS = 1000
SHORTEST_INTERVAL_MS = 50
"""A view costs the more the larger the fleet is, and who looks sees no more in less time."""


class RouterServicer(RouterServiceServicer):
    """Serves `chatmesh.router.v1.RouterService`."""

    def __init__(
        self,
        *,
        routing: RouteGeneration,
        registry: RegistrySource,
        fleet: Fleet,
        clock: Clock,
        metrics: RouterMetrics,
    ) -> None:
        self._routing = routing
        self._registry = registry
        self._fleet = fleet
        self._clock = clock
        self._metrics = metrics
        self._draining = asyncio.Event()

    async def drain(self) -> None:
        """End the streams, which would not end by themselves."""
        self._draining.set()

    async def Route(
        self, request: router_service_pb2.RouteRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> router_service_pb2.RouteResponse:
        """Chooses where a generation runs."""
        query = convert.query_from(request, identity=current_identity())
        started = time.perf_counter()
        try:
            decision = await self._routing.decide(query)
        except DomainError as error:
            self._metrics.refused(error.reason)
            raise
        self._metrics.decided(decision, seconds=time.perf_counter() - started)
        trace.get_current_span().set_attributes(
            {
                "chatmesh.model": decision.entry.name,
                "chatmesh.replica": decision.lease.replica_id,
                "chatmesh.route.rule": decision.rule,
            }
        )
        return convert.decision_to(decision, loaded=self._registry.current, reported=self._routing.reported)

    async def ListModels(
        self, request: router_service_pb2.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> router_service_pb2.ListModelsResponse:
        """Lists the models and aliases of the registry."""
        loaded = self._registry.current
        return router_service_pb2.ListModelsResponse(
            models=[
                convert.model_to(
                    entry,
                    loaded=loaded,
                    ready_replicas=self._fleet.ready(name, pools=pool_preferences(loaded.registry, entry)),
                    reported=self._routing.reported,
                )
                for name, entry in sorted(loaded.entries.items())
            ],
            aliases=convert.aliases_to(loaded),
            refused_file=self._registry.refused,
        )

    async def WatchFleet(
        self, request: fleet_pb2.WatchFleetRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[fleet_pb2.WatchFleetResponse]:
        """Streams the fleet as this router sees it, until the caller has seen enough or the router drains."""
        interval_s = max(SHORTEST_INTERVAL_MS, request.interval_ms or DEFAULT_INTERVAL_MS) / 1000
        while not self._draining.is_set():
            yield convert.fleet_to(self._fleet.view(self._clock.monotonic()))
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await self._draining.wait()
