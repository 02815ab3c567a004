"""Starts Moderation."""

from __future__ import annotations

from chatmesh.moderation.v1.moderation_service_pb2_grpc import add_ModerationServiceServicer_to_server
from services.moderation.metrics import ModerationMetrics
from services.moderation.service import ModerationServicer
from services.moderation.settings import ModerationSettings
from services.runtime.server import Server
from services.runtime.settings import launch
from services.runtime.telemetry import Telemetry


async def main(settings: ModerationSettings) -> None:
    """Serve until told to stop."""
    with Telemetry.start("moderation", settings) as telemetry:
        servicer = ModerationServicer(policy=settings.policy, metrics=ModerationMetrics(meter=telemetry.meter))
        server = Server(
            settings=settings,
            service="moderation",
            telemetry=telemetry,
            public_services=["chatmesh.moderation.v1.ModerationService"],
        )
        add_ModerationServiceServicer_to_server(servicer, server.grpc)
        server.on_drain(servicer.drain)
        await server.run()


if __name__ == "__main__":
    launch(ModerationSettings, main, service="moderation")
