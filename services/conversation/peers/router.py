"""The Router service."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from chatmesh.router.v1.router_service_pb2_grpc import RouterServiceStub
from services.conversation.model import Model, Route
from services.conversation.peers.convert import list_models_request, model_from_pb, route_from_pb, route_request
from services.runtime.client import call_unary

TIMEOUT_S = 2.0


class RouterPeer:
    """Asks where to generate."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = RouterServiceStub(channel)

    async def route(
        self, *, generation_id: str, model: str, conversation_id: str, excluded: Sequence[str] = ()
    ) -> Route:
        """Choose a model and a replica.

        Raises:
            DomainError: MODEL_NOT_FOUND, MODEL_NOT_ALLOWED, NO_REPLICA.
        """
        request = route_request(
            generation_id=generation_id, model=model, conversation_id=conversation_id, excluded=excluded
        )
        return route_from_pb(await call_unary(self._stub.Route, request, timeout_s=TIMEOUT_S, service="router"))

    async def list_models(self, *, tier: str) -> tuple[Sequence[Model], Sequence[str]]:
        """The models that a tier may use, and the names of the aliases."""
        response = await call_unary(self._stub.ListModels, list_models_request(), timeout_s=TIMEOUT_S, service="router")
        models = [model_from_pb(model) for model in response.models]
        allowed = [model for model in models if not model.tiers or tier in model.tiers]
        return allowed, [alias.name for alias in response.aliases]
