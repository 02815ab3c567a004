"""Calls the Router as a service of the mesh would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from chatmesh.router.v1 import fleet_pb2, model_pb2, router_service_pb2
from chatmesh.router.v1.router_service_pb2_grpc import RouterServiceStub
from services.runtime.errors import DomainError, from_status


class Client:
    """Routes for a user of some tier."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = RouterServiceStub(channel)
        self._health: Any = health_pb2_grpc.HealthStub(channel)
        self._number = 0

    def route(
        self,
        model: str = "small",
        *,
        tier: str = "free",
        user: str = "u1",
        residency: str = "",
        excluded: tuple[str, ...] = (),
        conversation: str = "",
        **fields: Any,
    ) -> router_service_pb2.RouteResponse:
        self._number += 1
        fields.setdefault("generation_id", f"g{self._number}")
        if "prompt" in fields:
            fields.setdefault("prompt_characters", len(fields["prompt"]))
        metadata = [("x-chatmesh-user", user), ("x-chatmesh-tier", tier)] if user else []
        if residency:
            metadata.append(("x-chatmesh-residency", residency))
        request = router_service_pb2.RouteRequest(
            model=model, conversation_id=conversation, excluded_replica_ids=excluded, **fields
        )
        return self._stub.Route(request, timeout=10, metadata=tuple(metadata))

    def refusal(self, model: str = "small", **changes: Any) -> DomainError:
        with pytest.raises(grpc.RpcError) as caught:
            self.route(model, **changes)
        assert isinstance(caught.value, grpc.Call)
        status = rpc_status.from_call(caught.value)
        assert status is not None
        error = from_status(status)
        assert error is not None
        assert caught.value.code() is error.code
        return error

    def can_route(self, model: str = "small", **changes: Any) -> bool:
        try:
            self.route(model, **changes)
        except grpc.RpcError:
            return False
        return True

    def models(self) -> router_service_pb2.ListModelsResponse:
        return self._stub.ListModels(router_service_pb2.ListModelsRequest(), timeout=10)

    def model(self, name: str) -> model_pb2.Model:
        return next(model for model in self.models().models if model.name == name)

    def fleet(self, *, interval_ms: int = 50) -> Iterator[fleet_pb2.WatchFleetResponse]:
        return self._stub.WatchFleet(fleet_pb2.WatchFleetRequest(interval_ms=interval_ms), timeout=30)

    def healthy(self) -> bool:
        answer = self._health.Check(health_pb2.HealthCheckRequest(service="chatmesh.router.v1.RouterService"))
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def client(router: Any) -> Iterator[Client]:
    with grpc.insecure_channel(router.listening()) as channel:
        yield Client(channel)
