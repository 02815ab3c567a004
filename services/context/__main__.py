"""Starts Context."""

from __future__ import annotations

from chatmesh.context.v1.context_service_pb2_grpc import add_ContextServiceServicer_to_server
from services.context.assemble import AssembleContext
from services.context.inference_tokenizer import InferenceTokenizer
from services.context.metrics import ContextMetrics
from services.context.service import ContextServicer
from services.context.settings import ContextSettings
from services.context.tokens import TokenCounter
from services.runtime.client import ChannelPool
from services.runtime.server import Server
from services.runtime.settings import launch
from services.runtime.telemetry import Telemetry


async def main(settings: ContextSettings) -> None:
    """Serve until told to stop."""
    with Telemetry.start("context", settings) as telemetry:
        async with ChannelPool() as channels:
            tokenizer = InferenceTokenizer(channels=channels, timeout_s=settings.count_timeout_s)
            tokens = TokenCounter(tokenizer=tokenizer, capacity=settings.count_cache_entries)
            servicer = ContextServicer(
                assembly=AssembleContext(tokens=tokens), metrics=ContextMetrics(meter=telemetry.meter)
            )
            # No check of a dependency: the replica whose tokenizer counts is named by each request.
            server = Server(
                settings=settings,
                service="context",
                telemetry=telemetry,
                public_services=["chatmesh.context.v1.ContextService"],
            )
            add_ContextServiceServicer_to_server(servicer, server.grpc)
            await server.run()


if __name__ == "__main__":
    launch(ContextSettings, main, service="context")
