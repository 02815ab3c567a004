"""Starts Moderation."""

from __future__ import annotations

import asyncio

from chatmesh.moderation.v1.moderation_service_pb2_grpc import add_ModerationServiceServicer_to_server
from chatmesh.moderation.v1.review_service_pb2_grpc import add_ReviewServiceServicer_to_server
from services.moderation.attacks.patterns import AttackPatterns
from services.moderation.events import Events
from services.moderation.guard.wiring import guarded
from services.moderation.input_check import InputCheck
from services.moderation.judge import Judge
from services.moderation.metrics import ModerationMetrics
from services.moderation.review.wiring import review
from services.moderation.scoring import Scoring
from services.moderation.service import ModerationServicer
from services.moderation.settings import ModerationSettings
from services.moderation.warm_up import warm_up
from services.runtime.background import Background
from services.runtime.clock import SystemClock
from services.runtime.server import Server
from services.runtime.settings import launch
from services.runtime.telemetry import Telemetry

POLICY_POLL_S = 1.0


async def main(settings: ModerationSettings) -> None:
    """Serve until told to stop."""
    policy = settings.policy
    clock = SystemClock()
    with Telemetry.start("moderation", settings) as telemetry:
        metrics = ModerationMetrics(meter=telemetry.meter, policy_refused=lambda: bool(policy.refused))
        scoring = Scoring(classifier=settings.classifier, metrics=metrics, threads=settings.classifier_threads)
        async with (
            review(
                database_url=settings.database_url,
                redis_url=settings.redis_url,
                clock=clock,
                meter=telemetry.meter,
                events_kept=lambda: policy.current.review.event_for,
            ) as queue,
            guarded(
                router_address=settings.router_address,
                redis_url=settings.redis_url,
                policy=lambda: policy.current,
                events=Events(recorder=queue.recorder, clock=clock),
                publisher=queue.publisher,
                findings=metrics,
                clock=clock,
                meter=telemetry.meter,
            ) as guard,
            Background() as background,
        ):
            background.start(policy.watch(interval_s=POLICY_POLL_S), scoring.run())
            judge = Judge(attacks=AttackPatterns.load())
            await asyncio.to_thread(warm_up, judge, policy.current)
            servicer = ModerationServicer(
                policy=lambda: policy.current,
                input_check=InputCheck(judge=judge, scoring=scoring, guard=guard.guard),
                scoring=scoring,
                events=Events(recorder=queue.recorder, clock=clock),
                metrics=metrics,
                offers=guard.offers,
            )
            server = Server(
                settings=settings,
                service="moderation",
                telemetry=telemetry,
                public_services=["chatmesh.moderation.v1.ModerationService", "chatmesh.moderation.v1.ReviewService"],
            )
            add_ModerationServiceServicer_to_server(servicer, server.grpc)
            add_ReviewServiceServicer_to_server(queue.servicer, server.grpc)
            server.on_drain(servicer.drain)
            await server.run()


if __name__ == "__main__":
    launch(ModerationSettings, main, service="moderation")
