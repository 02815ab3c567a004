"""Unary RPCs of the Router, called as any client in any language would."""

from __future__ import annotations

from typing import Any

import grpc

from chatmesh.router.v1 import router_service_pb2 as pb
from chatmesh.router.v1.router_service_pb2_grpc import RouterServiceStub

SERVICE = "router"
STUB = RouterServiceStub


def test_the_registry_is_listed_with_its_ready_replicas(grpc_stub: RouterServiceStub) -> None:
    listed = grpc_stub.ListModels(pb.ListModelsRequest(), timeout=10)
    models = {model.name: model for model in listed.models}
    assert models["smollm2-135m"].engine == "llama_cpp"
    assert models["smollm2-135m"].ready_replicas == 1
    assert "auto" in {alias.name for alias in listed.aliases}


def test_an_alias_is_routed_with_a_receipt(grpc_stub: RouterServiceStub) -> None:
    routed = grpc_stub.Route(pb.RouteRequest(generation_id="g", model="auto"), timeout=10)
    assert routed.receipt.requested_model == "auto"
    assert routed.receipt.model == routed.model.name
    assert routed.lease.replica_id == routed.receipt.candidates[0].replica_id
    assert routed.lease.address


def test_an_unknown_model_is_not_found(grpc_stub: RouterServiceStub, refusal: Any) -> None:
    code, reason, metadata = refusal(grpc_stub.Route, pb.RouteRequest(model="gpt-9"))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert "smollm2-135m" in metadata["known_models"]


def test_a_name_that_is_none_is_invalid(grpc_stub: RouterServiceStub, refusal: Any) -> None:
    code, reason, _ = refusal(grpc_stub.Route, pb.RouteRequest(model="no such name!"))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


def test_a_replica_that_failed_is_not_chosen_again(grpc_stub: RouterServiceStub, refusal: Any) -> None:
    routed = grpc_stub.Route(pb.RouteRequest(model="auto"), timeout=10)
    request = pb.RouteRequest(model="auto", excluded_replica_ids=[routed.lease.replica_id])
    code, reason, _ = refusal(grpc_stub.Route, request)
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "NO_REPLICA")
