"""Starts the Router."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from chatmesh.router.v1.router_service_pb2_grpc import add_RouterServiceServicer_to_server
from services.router.embedding_client import EmbeddingClient
from services.router.fleet import Fleet
from services.router.inference_status import InferenceStatus
from services.router.meaning import Meaning
from services.router.metrics import RouterMetrics
from services.router.registry_file import RegistryFile
from services.router.route import RouteGeneration
from services.router.service import RouterServicer
from services.router.settings import RouterSettings
from services.router.watch_fleet import WatchFleet
from services.runtime.client import ChannelPool
from services.runtime.clock import SystemClock, new_id
from services.runtime.server import Server
from services.runtime.settings import launch
from services.runtime.telemetry import Telemetry


async def main(settings: RouterSettings) -> None:
    """Serve until told to stop."""
    with Telemetry.start("router", settings) as telemetry:
        async with ChannelPool() as channels:
            clock = SystemClock()
            registry = RegistryFile(path=settings.models_file, clock=clock)
            fleet = Fleet(lease_ttl_s=settings.lease_ttl_s, settle_s=settings.lease_settle_s)
            watch = WatchFleet(
                fleet=fleet,
                source=InferenceStatus(channels=channels),
                clock=clock,
                addresses=settings.inference_targets,
                silence_s=settings.status_silence_s,
                jitter=random.Random(),
            )
            metrics = RouterMetrics(meter=telemetry.meter, fleet=fleet, registry=registry)
            meaning = Meaning(
                registry=registry,
                fleet=fleet,
                embeddings=EmbeddingClient(channels=channels),
                clock=clock,
                timeout_s=settings.embed_timeout_s,
                count=metrics.compared,
            )
            routing = RouteGeneration(
                registry=registry,
                fleet=fleet,
                clock=clock,
                new_id=new_id,
                lease_ttl_s=settings.lease_ttl_s,
                meaning=meaning,
            )
            servicer = RouterServicer(routing=routing, registry=registry, fleet=fleet, clock=clock, metrics=metrics)
            server = Server(
                settings=settings,
                service="router",
                telemetry=telemetry,
                public_services=["chatmesh.router.v1.RouterService"],
            )
            add_RouterServiceServicer_to_server(servicer, server.grpc)
            server.add_check("inference", fleet.check)
            server.on_drain(servicer.drain)
            background = asyncio.gather(watch.run(), registry.watch(interval_s=settings.models_poll_s), meaning.run())
            # A router that no longer watches would route by what was true once: better that it ends and is restarted.
            background.add_done_callback(lambda _: server.stop())
            try:
                await server.run()
            finally:
                background.cancel()
            with suppress(asyncio.CancelledError):
                await background


if __name__ == "__main__":
    launch(RouterSettings, main, service="router")
