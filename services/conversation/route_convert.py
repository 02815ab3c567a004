"""Between route receipts in the contract, in the database's JSON, and in the model."""

from __future__ import annotations

from typing import Any

from chatmesh.type.v1 import route_pb2
from services.conversation.moderation_convert import (
    moderation_from_json,
    moderation_from_pb,
    moderation_to_json,
    moderation_to_pb,
)
from services.conversation.route_model import Candidate, ExperimentArm, ModelCandidate, RouteReceipt


def route_to_json(route: RouteReceipt) -> dict[str, Any]:
    """As stored; also what `x-chatmesh-route` says."""
    return {
        "requested_model": route.requested_model,
        "model": route.model,
        "engine": route.engine,
        "replica_id": route.replica_id,
        "rule": route.rule,
        "candidates": [[c.model, c.replica_id, c.score, c.in_flight, c.pool, c.region] for c in route.candidates],
        "models": [[m.model, m.score, m.reason] for m in route.models],
        "classification": route.classification,
        "experiments": [[e.experiment, e.arm] for e in route.experiments],
        "pool": route.pool,
        "zone": route.zone,
        "region": route.region,
        "escalated_from": route.escalated_from,
        "queue_ms": route.queue_ms,
        "first_token_ms": route.first_token_ms,
        "retries": route.retries,
        "epochs": route.epochs,
        "cost_nano_usd": route.cost_nano_usd,
        "moderation": moderation_to_json(route.moderation) if route.moderation else None,
    }


def route_from_json(value: dict[str, Any]) -> RouteReceipt:
    """As stored, by this version or an earlier one, which said less."""
    return RouteReceipt(
        requested_model=value["requested_model"],
        model=value["model"],
        engine=value["engine"],
        replica_id=value["replica_id"],
        rule=value["rule"],
        candidates=tuple(Candidate(*c) for c in value["candidates"]),
        models=tuple(ModelCandidate(*m) for m in value.get("models", ())),
        classification=value.get("classification", ""),
        experiments=tuple(ExperimentArm(*e) for e in value.get("experiments", ())),
        pool=value.get("pool", ""),
        zone=value.get("zone", ""),
        region=value.get("region", ""),
        escalated_from=value.get("escalated_from", ""),
        queue_ms=value.get("queue_ms", 0.0),
        first_token_ms=value.get("first_token_ms", 0.0),
        retries=value.get("retries", 0),
        epochs=value.get("epochs", 0),
        cost_nano_usd=value.get("cost_nano_usd"),
        moderation=moderation_from_json(value.get("moderation")),
    )


def route_to_pb(route: RouteReceipt) -> route_pb2.RouteReceipt:
    """As sent."""
    return route_pb2.RouteReceipt(
        requested_model=route.requested_model,
        model=route.model,
        engine=route.engine,
        replica_id=route.replica_id,
        rule=route.rule,
        candidates=[
            route_pb2.RouteCandidate(
                model=c.model,
                replica_id=c.replica_id,
                score=c.score,
                in_flight=c.in_flight,
                pool=c.pool,
                region=c.region,
            )
            for c in route.candidates
        ],
        models=[route_pb2.ModelCandidate(model=m.model, score=m.score, reason=m.reason) for m in route.models],
        classification=route.classification,
        experiments=[route_pb2.ExperimentArm(experiment=e.experiment, arm=e.arm) for e in route.experiments],
        pool=route.pool,
        zone=route.zone,
        region=route.region,
        escalated_from=route.escalated_from,
        queue_ms=route.queue_ms,
        first_token_ms=route.first_token_ms,
        retries=route.retries,
        epochs=route.epochs,
        cost_nano_usd=route.cost_nano_usd,
        moderation=moderation_to_pb(route.moderation) if route.moderation else None,
    )


def route_from_pb(route: route_pb2.RouteReceipt) -> RouteReceipt:
    """As it was sent."""
    return RouteReceipt(
        requested_model=route.requested_model,
        model=route.model,
        engine=route.engine,
        replica_id=route.replica_id,
        rule=route.rule,
        candidates=tuple(
            Candidate(c.model, c.replica_id, c.score, c.in_flight, c.pool, c.region) for c in route.candidates
        ),
        models=tuple(ModelCandidate(m.model, m.score, m.reason) for m in route.models),
        classification=route.classification,
        experiments=tuple(ExperimentArm(e.experiment, e.arm) for e in route.experiments),
        pool=route.pool,
        zone=route.zone,
        region=route.region,
        escalated_from=route.escalated_from,
        queue_ms=route.queue_ms,
        first_token_ms=route.first_token_ms,
        retries=route.retries,
        epochs=route.epochs,
        cost_nano_usd=route.cost_nano_usd if route.HasField("cost_nano_usd") else None,
        moderation=moderation_from_pb(route.moderation) if route.HasField("moderation") else None,
    )
