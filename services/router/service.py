"""The Router's gRPC service."""

from __future__ import annotations

import time
from typing import Any

import grpc
from opentelemetry import trace

from chatmesh.router.v1 import router_service_pb2
from chatmesh.router.v1.router_service_pb2_grpc import RouterServiceServicer
from services.router import convert
from services.router.fleet import Fleet
from services.router.metrics import RouterMetrics
from services.router.route import RegistrySource, RouteGeneration
from services.runtime.errors import DomainError
from services.runtime.identity import current_identity


class RouterServicer(RouterServiceServicer):
    """Serves `chatmesh.router.v1.RouterService`."""

    def __init__(
        self, *, routing: RouteGeneration, registry: RegistrySource, fleet: Fleet, metrics: RouterMetrics
    ) -> None:
        self._routing = routing
        self._registry = registry
        self._fleet = fleet
        self._metrics = metrics

    async def Route(
        self, request: router_service_pb2.RouteRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> router_service_pb2.RouteResponse:
        """Chooses where a generation runs."""
        identity = current_identity()
        query = convert.query_from(request, tier=identity.tier if identity else "")
        started = time.perf_counter()
        try:
            decision = self._routing.decide(query)
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
        return convert.decision_to(decision, loaded=self._registry.current)

    async def ListModels(
        self, request: router_service_pb2.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> router_service_pb2.ListModelsResponse:
        """Lists the models and aliases of the registry."""
        loaded = self._registry.current
        return router_service_pb2.ListModelsResponse(
            models=[
                convert.model_to(entry, loaded=loaded, ready_replicas=self._fleet.ready(name))
                for name, entry in sorted(loaded.entries.items())
            ],
            aliases=[convert.alias_to(name, models) for name, models in sorted(loaded.registry.aliases.items())],
        )
