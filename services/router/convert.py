"""Between the Router's words and its contracts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from chatmesh.inference.v1 import generation_pb2, inference_service_pb2, status_pb2
from chatmesh.router.v1 import fleet_pb2, model_pb2, router_service_pb2
from chatmesh.type.v1 import route_pb2
from services.router.model import (
    BreakerState,
    Decision,
    Lease,
    LoadedRegistry,
    ModelLoad,
    ModelView,
    ReplicaReport,
    ReplicaView,
    RouteQuery,
    WaitingClass,
)
from services.router.selection import Reported, capabilities_of
from services.router.similarity import Vector
from services.runtime.identity import Identity
from services.runtime.model_registry import ModelEntry
from services.runtime.routing_policy import PriorityName

CAPABILITIES: Mapping[str, status_pb2.Capability] = {
    "chat": status_pb2.CAPABILITY_CHAT,
    "tools": status_pb2.CAPABILITY_TOOLS,
    "vision": status_pb2.CAPABILITY_VISION,
    "json": status_pb2.CAPABILITY_JSON,
    "logprobs": status_pb2.CAPABILITY_LOGPROBS,
    "logit_bias": status_pb2.CAPABILITY_LOGIT_BIAS,
    "penalties": status_pb2.CAPABILITY_PENALTIES,
    "embeddings": status_pb2.CAPABILITY_EMBEDDINGS,
}
CAPABILITY_NAMES: Mapping[int, str] = {value: name for name, value in CAPABILITIES.items()}

_PRIORITIES: Mapping[PriorityName, generation_pb2.Priority] = {
    "background": generation_pb2.PRIORITY_BACKGROUND,
    "low": generation_pb2.PRIORITY_LOW,
    "normal": generation_pb2.PRIORITY_NORMAL,
    "high": generation_pb2.PRIORITY_HIGH,
}
_BREAKER_STATES: Mapping[BreakerState, fleet_pb2.BreakerState] = {
    BreakerState.CLOSED: fleet_pb2.BREAKER_STATE_CLOSED,
    BreakerState.OPEN: fleet_pb2.BREAKER_STATE_OPEN,
    BreakerState.HALF_OPEN: fleet_pb2.BREAKER_STATE_HALF_OPEN,
}


def watch_request() -> inference_service_pb2.WatchStatusRequest:
    """The request that opens a watch."""
    return inference_service_pb2.WatchStatusRequest()


def report_from(status: status_pb2.ReplicaStatus) -> ReplicaReport:
    """A replica's status as a report."""
    return ReplicaReport(
        replica_id=status.replica_id,
        draining=status.draining,
        models={loaded.name: _load_from(loaded) for loaded in status.models},
        pool=status.pool,
        zone=status.zone,
        region=status.region,
    )


def _load_from(loaded: status_pb2.LoadedModel) -> ModelLoad:
    return ModelLoad(
        running=loaded.running,
        queued=loaded.queued,
        slots=loaded.slots,
        tokens_per_second=loaded.tokens_per_second,
        first_token_ms=loaded.time_to_first_token_ms,
        queue_wait_ms=loaded.queue_wait_ms,
        completed=loaded.completed,
        failed=loaded.failed,
        capabilities=frozenset(CAPABILITY_NAMES[value] for value in loaded.capabilities if value in CAPABILITY_NAMES),
        kv_cache_usage=loaded.kv_cache_usage,
        kv_cache_hit_rate=loaded.kv_cache_hit_rate,
        engine=loaded.engine,
        context_length=loaded.context_length,
        waiting=tuple(WaitingClass(waiting.priority, waiting.queued, waiting.wait_ms) for waiting in loaded.waiting),
    )


def query_from(request: router_service_pb2.RouteRequest, *, identity: Identity | None) -> RouteQuery:
    """What is to be routed, and for whom."""
    return RouteQuery(
        generation_id=request.generation_id,
        model=request.model,
        conversation_id=request.conversation_id,
        tier=identity.tier if identity else "",
        user_id=identity.user_id if identity else "",
        residency=identity.residency if identity else "",
        excluded_replica_ids=frozenset(request.excluded_replica_ids),
        failed_replica_id=request.failed_replica_id,
        last_replica_id=request.last_replica_id,
        affinity_keys=tuple(request.affinity_keys),
        capabilities=frozenset(CAPABILITY_NAMES[value] for value in request.capabilities if value in CAPABILITY_NAMES),
        zone=request.zone,
        region=request.region,
        prompt=request.prompt,
        prompt_characters=max(0, request.prompt_characters),
        escalated_from=request.escalated_from,
        background=request.background,
        continues=request.continues,
    )


def decision_to(decision: Decision, *, loaded: LoadedRegistry, reported: Reported) -> router_service_pb2.RouteResponse:
    """A decision as the answer to `Route`."""
    response = router_service_pb2.RouteResponse(
        lease=_lease_to(decision.lease),
        receipt=_receipt_to(decision),
        model=model_to(decision.entry, loaded=loaded, ready_replicas=decision.ready_replicas, reported=reported),
        priority=_PRIORITIES[decision.priority],
    )
    if decision.cascade is not None:
        response.cascade.model = decision.cascade.then
        response.cascade.probe_tokens = decision.cascade.probe_tokens
        response.cascade.weak_openings.extend(decision.cascade.weak_openings)
        if decision.cascade.min_mean_logprob is not None:
            response.cascade.min_mean_logprob = decision.cascade.min_mean_logprob
    for shadow in decision.shadows:
        response.shadows.add(
            name=shadow.name,
            lease=_lease_to(shadow.lease),
            model=model_to(shadow.entry, loaded=loaded, ready_replicas=shadow.ready_replicas, reported=reported),
        )
    return response


def _lease_to(lease: Lease) -> router_service_pb2.RouteLease:
    return router_service_pb2.RouteLease(
        lease_id=lease.lease_id, replica_id=lease.replica_id, address=lease.address, expire_time=lease.expires
    )


def _receipt_to(decision: Decision) -> route_pb2.RouteReceipt:
    chosen = decision.chosen
    receipt = route_pb2.RouteReceipt(
        requested_model=decision.requested_model,
        model=decision.entry.name,
        engine=decision.entry.engine,
        replica_id=chosen.replica_id,
        rule=decision.rule,
        classification=decision.classification,
        pool=chosen.pool,
        zone=chosen.zone,
        region=chosen.region,
        escalated_from=decision.escalated_from,
    )
    for candidate in decision.candidates:
        receipt.candidates.add(
            model=decision.entry.name,
            replica_id=candidate.option.replica_id,
            score=candidate.score,
            in_flight=candidate.option.in_flight,
            pool=candidate.option.pool,
            region=candidate.option.region,
        )
    for considered in decision.models:
        receipt.models.add(model=considered.model, score=considered.score, reason=considered.reason)
    for arm in decision.experiments:
        receipt.experiments.add(experiment=arm.experiment, arm=arm.arm)
    return receipt


def model_to(entry: ModelEntry, *, loaded: LoadedRegistry, ready_replicas: int, reported: Reported) -> model_pb2.Model:
    """A model of the registry."""
    model = model_pb2.Model(
        name=entry.name,
        description=entry.description,
        engine=entry.engine,
        context_length=entry.context_length,
        max_output_tokens=entry.max_output_tokens,
        default_system_prompt=entry.default_system_prompt,
        ready_replicas=ready_replicas,
        create_time=loaded.loaded,
        tiers=entry.tiers,
        capabilities=sorted(CAPABILITIES[name] for name in capabilities_of(entry, reported) or ()),
        pools=entry.pools,
        fallbacks=entry.fallbacks,
        quality=entry.quality,
    )
    if entry.prices is not None:
        model.prices.input_per_million = entry.prices.input_per_million
        model.prices.cached_input_per_million = entry.prices.cached_or_input_per_million
        model.prices.output_per_million = entry.prices.output_per_million
    return model


def aliases_to(loaded: LoadedRegistry) -> list[model_pb2.ModelAlias]:
    """The aliases of the registry, those that choose included, by name."""
    aliases = {**loaded.registry.aliases, **{name: auto.models for name, auto in loaded.registry.auto.items()}}
    return [model_pb2.ModelAlias(name=name, models=models) for name, models in sorted(aliases.items())]


def fleet_to(replicas: Iterable[ReplicaView]) -> fleet_pb2.WatchFleetResponse:
    """The fleet at one moment."""
    return fleet_pb2.WatchFleetResponse(
        replicas=[
            fleet_pb2.FleetReplica(
                replica_id=replica.replica_id,
                address=replica.address,
                pool=replica.pool,
                zone=replica.zone,
                region=replica.region,
                draining=replica.draining,
                silent_ms=replica.silent_ms,
                models=[_fleet_model_to(model) for model in replica.models],
            )
            for replica in replicas
        ]
    )


def _fleet_model_to(model: ModelView) -> fleet_pb2.FleetModel:
    load = model.load
    loaded = status_pb2.LoadedModel(
        name=model.name,
        engine=load.engine,
        context_length=load.context_length,
        running=load.running,
        queued=load.queued,
        slots=load.slots,
        tokens_per_second=load.tokens_per_second,
        time_to_first_token_ms=load.first_token_ms,
        capabilities=sorted(CAPABILITIES[name] for name in load.capabilities),
        kv_cache_usage=load.kv_cache_usage,
        kv_cache_hit_rate=load.kv_cache_hit_rate,
        queue_wait_ms=load.queue_wait_ms,
        completed=load.completed,
        failed=load.failed,
    )
    for waiting in load.waiting:
        loaded.waiting.add(priority=waiting.priority, queued=waiting.queued, wait_ms=waiting.wait_ms)
    return fleet_pb2.FleetModel(
        loaded=loaded, leased=model.leased, score=model.score, breaker=_BREAKER_STATES[model.breaker]
    )


def embed_request(model: str, texts: Sequence[str]) -> inference_service_pb2.EmbedRequest:
    """The request for vectors of texts. Routing waits for it, so it goes before what is only worked off."""
    return inference_service_pb2.EmbedRequest(model=model, texts=texts, priority=generation_pb2.PRIORITY_HIGH)


def vectors_from(response: inference_service_pb2.EmbedResponse) -> list[Vector]:
    """The vectors of an answer."""
    return [tuple(embedding.values) for embedding in response.embeddings]
