"""The guard with all that it needs, as one part of the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from opentelemetry.metrics import Meter

from services.moderation.events import Events
from services.moderation.guard.client import GuardClient
from services.moderation.guard.guard import Guard
from services.moderation.guard.inference import InferencePeers
from services.moderation.guard.metrics import GuardMetrics
from services.moderation.guard.offers import GuardOffers
from services.moderation.guard.worker import GuardWorker
from services.moderation.late.publisher import LatePublisher
from services.moderation.metrics import ModerationMetrics
from services.moderation.policy import Policy
from services.runtime.background import Background
from services.runtime.client import ChannelPool
from services.runtime.clock import Clock
from services.runtime.redis import connect_redis


@dataclass(frozen=True, slots=True)
class GuardParts:
    """What the rest of the process uses of it. Both None: this process asks no guard."""

    guard: Guard | None = None
    offers: GuardOffers | None = None


@asynccontextmanager
async def guarded(
    *,
    router_address: str | None,
    redis_url: str,
    policy: Callable[[], Policy],
    events: Events,
    publisher: LatePublisher,
    findings: ModerationMetrics,
    clock: Clock,
    meter: Meter,
) -> AsyncIterator[GuardParts]:
    """Run it for as long as the block lasts, whether the policy has a guard now or not: it may be given one.

    Args:
        router_address: gRPC target of the Router; None: there is no guard.
        redis_url: Redis or Valkey, for what is looked at in the background. It need not be there.
        policy: Gives the policy in force.
        events: Where what is found is written down.
        publisher: Tells whoever shows texts.
        findings: Told of what is found.
        clock: The time.
        meter: For its metrics.
    """
    if router_address is None:
        yield GuardParts()
        return
    metrics = GuardMetrics(meter=meter)
    async with ChannelPool() as channels, connect_redis(redis_url) as redis, Background() as background:
        inference = InferencePeers(channels)
        guard = Guard(client=GuardClient(router=channels.channel(router_address), inference=inference), metrics=metrics)
        offers = GuardOffers(redis=redis, clock=clock, metrics=metrics)
        worker = GuardWorker(
            redis=redis,
            policy=policy,
            guard=guard,
            events=events,
            publisher=publisher,
            clock=clock,
            findings=findings,
            metrics=metrics,
        )
        background.start(offers.run(), worker.run())
        try:
            yield GuardParts(guard, offers)
        finally:
            await inference.close()
