"""Between the Router's words and its contracts."""

from __future__ import annotations

from chatmesh.inference.v1 import inference_service_pb2, status_pb2
from chatmesh.router.v1 import model_pb2, router_service_pb2
from chatmesh.type.v1 import route_pb2
from services.router.model import Decision, LoadedRegistry, ModelLoad, ReplicaReport, RouteQuery
from services.runtime.model_registry import ModelEntry


def watch_request() -> inference_service_pb2.WatchStatusRequest:
    """The request that opens a watch."""
    return inference_service_pb2.WatchStatusRequest()


def report_from(status: status_pb2.ReplicaStatus) -> ReplicaReport:
    """A replica's status as a report."""
    return ReplicaReport(
        replica_id=status.replica_id,
        draining=status.draining,
        models={
            loaded.name: ModelLoad(
                running=loaded.running,
                queued=loaded.queued,
                slots=loaded.slots,
                tokens_per_second=loaded.tokens_per_second,
                first_token_ms=loaded.time_to_first_token_ms,
            )
            for loaded in status.models
        },
    )


def query_from(request: router_service_pb2.RouteRequest, *, tier: str) -> RouteQuery:
    """What is to be routed."""
    return RouteQuery(
        generation_id=request.generation_id,
        model=request.model,
        conversation_id=request.conversation_id,
        tier=tier,
        excluded_replica_ids=frozenset(request.excluded_replica_ids),
    )


def decision_to(decision: Decision, *, loaded: LoadedRegistry) -> router_service_pb2.RouteResponse:
    """A decision as the answer to `Route`."""
    lease = decision.lease
    response = router_service_pb2.RouteResponse(
        lease=router_service_pb2.RouteLease(
            lease_id=lease.lease_id, replica_id=lease.replica_id, address=lease.address, expire_time=lease.expires
        ),
        receipt=route_pb2.RouteReceipt(
            requested_model=decision.requested_model,
            model=decision.entry.name,
            engine=decision.entry.engine,
            replica_id=lease.replica_id,
            rule=decision.rule,
        ),
        model=model_to(decision.entry, loaded=loaded, ready_replicas=decision.ready_replicas),
    )
    for candidate in decision.candidates:
        response.receipt.candidates.add(
            model=decision.entry.name,
            replica_id=candidate.option.replica_id,
            score=candidate.score,
            in_flight=candidate.option.in_flight,
        )
    return response


def model_to(entry: ModelEntry, *, loaded: LoadedRegistry, ready_replicas: int) -> model_pb2.Model:
    """A model of the registry."""
    return model_pb2.Model(
        name=entry.name,
        description=entry.description,
        engine=entry.engine,
        context_length=entry.context_length,
        max_output_tokens=entry.max_output_tokens,
        default_system_prompt=entry.default_system_prompt,
        ready_replicas=ready_replicas,
        create_time=loaded.loaded,
        tiers=entry.tiers,
    )


def alias_to(name: str, models: list[str]) -> model_pb2.ModelAlias:
    """An alias of the registry."""
    return model_pb2.ModelAlias(name=name, models=models)
