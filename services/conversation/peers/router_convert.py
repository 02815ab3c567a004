"""Between the Router's contract and the model."""

from __future__ import annotations

from chatmesh.inference.v1 import status_pb2
from chatmesh.router.v1 import model_pb2, router_service_pb2
from services.conversation.route_convert import route_from_pb as receipt_from_pb
from services.conversation.route_model import (
    Capability,
    Cascade,
    Model,
    Prices,
    Priority,
    Route,
    RouteQuery,
    ShadowRoute,
)

_CAPABILITIES = {
    Capability.CHAT: status_pb2.CAPABILITY_CHAT,
    Capability.TOOLS: status_pb2.CAPABILITY_TOOLS,
    Capability.VISION: status_pb2.CAPABILITY_VISION,
    Capability.JSON: status_pb2.CAPABILITY_JSON,
    Capability.LOGPROBS: status_pb2.CAPABILITY_LOGPROBS,
    Capability.LOGIT_BIAS: status_pb2.CAPABILITY_LOGIT_BIAS,
    Capability.PENALTIES: status_pb2.CAPABILITY_PENALTIES,
    Capability.EMBEDDINGS: status_pb2.CAPABILITY_EMBEDDINGS,
}
_PRIORITIES = {priority.value: priority for priority in Priority}
_CAPABILITIES_FROM = {value: capability for capability, value in _CAPABILITIES.items()}


def route_request(query: RouteQuery, *, zone: str, region: str) -> router_service_pb2.RouteRequest:
    """What is to be routed, from where."""
    return router_service_pb2.RouteRequest(
        generation_id=query.generation_id,
        model=query.model,
        conversation_id=query.conversation_id,
        excluded_replica_ids=query.excluded,
        failed_replica_id=query.failed,
        affinity_keys=query.affinity_keys,
        last_replica_id=query.last_replica_id,
        prompt=query.prompt,
        prompt_characters=query.prompt_characters,
        capabilities=[_CAPABILITIES[capability] for capability in sorted(query.capabilities)],
        zone=zone,
        region=region,
        escalated_from=query.escalated_from,
        background=query.background,
        continues=query.continues,
    )


def list_models_request() -> router_service_pb2.ListModelsRequest:
    """Asks for the registry."""
    return router_service_pb2.ListModelsRequest()


def route_from_pb(response: router_service_pb2.RouteResponse) -> Route:
    """Where a generation runs."""
    return Route(
        address=response.lease.address,
        replica_id=response.lease.replica_id,
        model=model_from_pb(response.model),
        receipt=receipt_from_pb(response.receipt),
        cascade=_cascade(response.cascade) if response.HasField("cascade") else None,
        shadows=tuple(
            ShadowRoute(shadow.name, shadow.lease.address, shadow.lease.replica_id, model_from_pb(shadow.model))
            for shadow in response.shadows
        ),
        # What a newer router says and this server does not know is the usual.
        priority=_PRIORITIES.get(int(response.priority), Priority.UNSPECIFIED),
    )


def model_from_pb(model: model_pb2.Model) -> Model:
    """A model of the registry."""
    prices = model.prices
    return Model(
        name=model.name,
        context_length=model.context_length,
        max_output_tokens=model.max_output_tokens,
        default_system_prompt=model.default_system_prompt,
        created=model.create_time.seconds,
        tiers=tuple(model.tiers),
        # What a newer router knows and this server does not, nobody here can ask for.
        capabilities=frozenset(_CAPABILITIES_FROM[c] for c in model.capabilities if c in _CAPABILITIES_FROM),
        prices=Prices(prices.input_per_million, prices.cached_input_per_million, prices.output_per_million)
        if model.HasField("prices")
        else None,
    )


def _cascade(cascade: router_service_pb2.Cascade) -> Cascade:
    return Cascade(
        model=cascade.model,
        probe_tokens=cascade.probe_tokens,
        min_mean_logprob=cascade.min_mean_logprob if cascade.HasField("min_mean_logprob") else None,
        weak_openings=tuple(cascade.weak_openings),
    )
