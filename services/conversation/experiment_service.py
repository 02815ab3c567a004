"""`chatmesh.conversation.v1.ExperimentService`: what experiments have shown, for operators."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import grpc

from chatmesh.conversation.v1 import experiment_service_pb2
from chatmesh.conversation.v1.experiment_service_pb2_grpc import ExperimentServiceServicer
from services.conversation.experiment_store import ExperimentStore


class ExperimentServicer(ExperimentServiceServicer):
    """Reads what was recorded."""

    def __init__(self, *, store: ExperimentStore) -> None:
        self._store = store

    async def GetExperimentResults(
        self,
        request: experiment_service_pb2.GetExperimentResultsRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> experiment_service_pb2.GetExperimentResultsResponse:
        """Compares the arms of an experiment."""
        since = request.since.ToDatetime(UTC) if request.HasField("since") else None
        results = await self._store.results(experiment=request.experiment, since=since)
        return experiment_service_pb2.GetExperimentResultsResponse(
            arms=[
                experiment_service_pb2.ArmResult(
                    arm=result.arm,
                    users=result.users,
                    generations=result.generations,
                    failed=result.failed,
                    rated=result.rated,
                    rated_up=result.rated_up,
                    first_token_p50_ms=result.first_token_p50_ms,
                    first_token_p99_ms=result.first_token_p99_ms,
                    duration_p50_ms=result.duration_p50_ms,
                    duration_p99_ms=result.duration_p99_ms,
                    completion_tokens=result.completion_tokens,
                    cost_nano_usd=result.cost_nano_usd,
                )
                for result in results
            ]
        )
