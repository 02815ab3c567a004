"""Context's gRPC service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from opentelemetry import trace

from chatmesh.context.v1 import context_service_pb2
from chatmesh.context.v1.context_service_pb2_grpc import ContextServiceServicer
from services.context.assemble import AssembleContext, Effort
from services.context.convert import answer_to, said_from
from services.context.metrics import ContextMetrics
from services.context.model import Assembled, Said


class ContextServicer(ContextServiceServicer):
    """Serves `chatmesh.context.v1.ContextService`."""

    def __init__(self, *, assembly: AssembleContext, metrics: ContextMetrics) -> None:
        self._assembly = assembly
        self._metrics = metrics

    async def AssembleContext(
        self,
        request_iterator: AsyncIterator[context_service_pb2.AssembleContextRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[context_service_pb2.AssembleContextResponse]:
        """Assembles the prompt of one turn."""
        effort = Effort()
        async for answer in self._assembly.run(_said(request_iterator), effort=effort):
            if isinstance(answer, Assembled):
                self._metrics.assembled(answer, effort)
                trace.get_current_span().set_attributes(
                    {
                        "chatmesh.model": effort.model,
                        "chatmesh.context.pages": effort.pages,
                        "chatmesh.context.tokens_counted": effort.tokens_counted,
                        "chatmesh.context.prompt_tokens": answer.prompt_tokens,
                        "chatmesh.context.truncated": answer.truncated,
                    }
                )
            yield answer_to(answer)


async def _said(requests: AsyncIterator[context_service_pb2.AssembleContextRequest]) -> AsyncIterator[Said]:
    async for request in requests:
        yield said_from(request)
