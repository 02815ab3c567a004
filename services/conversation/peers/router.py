"""The Router service."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from chatmesh.router.v1.router_service_pb2_grpc import RouterServiceStub
from services.conversation.model import Alias
from services.conversation.peers.router_convert import list_models_request, model_from_pb, route_from_pb, route_request
from services.conversation.route_model import Model, Route, RouteQuery
from services.runtime.client import call_unary

TIMEOUT_S = 2.0


class RouterPeer:
    """Asks where to generate."""

    def __init__(self, channel: grpc.aio.Channel, *, zone: str, region: str) -> None:
        """`zone` and `region` are where this process runs; nearer replicas are preferred."""
        self._stub = RouterServiceStub(channel)
        self._zone = zone
        self._region = region

    async def route(self, query: RouteQuery) -> Route:
        """Choose a model and a replica.

        Raises:
            DomainError: MODEL_NOT_FOUND, MODEL_NOT_ALLOWED, UNSUPPORTED_CAPABILITY, RESIDENCY_UNAVAILABLE, NO_REPLICA.
        """
        request = route_request(query, zone=self._zone, region=self._region)
        return route_from_pb(await call_unary(self._stub.Route, request, timeout_s=TIMEOUT_S, service="router"))

    async def list_models(self, *, tier: str) -> tuple[Sequence[Model], Sequence[Alias]]:
        """The models that a tier may use, and the aliases."""
        response = await call_unary(self._stub.ListModels, list_models_request(), timeout_s=TIMEOUT_S, service="router")
        models = [model_from_pb(model) for model in response.models]
        allowed = [model for model in models if not model.tiers or tier in model.tiers]
        return allowed, [Alias(alias.name, tuple(alias.models)) for alias in response.aliases]
