"""Starts Usage."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from chatmesh.usage.v1.usage_service_pb2_grpc import add_UsageServiceServicer_to_server
from services.runtime.clock import SystemClock
from services.runtime.database import Database
from services.runtime.migrations import migrate
from services.runtime.redis import connect_redis
from services.runtime.server import Server
from services.runtime.settings import launch
from services.runtime.telemetry import Telemetry
from services.usage.check_rate import CheckRate
from services.usage.counters import Counters
from services.usage.metrics import UsageMetrics
from services.usage.quota import Quota
from services.usage.quota_counters import QuotaCounters
from services.usage.rate_counters import RateCounters
from services.usage.rate_policy import RatePolicy
from services.usage.service import EnvoyRateLimitServicer, UsageServicer
from services.usage.settings import UsageSettings
from services.usage.store import UsageStore

MIGRATIONS = Path(__file__).with_name("migrations")


async def main(settings: UsageSettings) -> None:
    """Serve until told to stop."""
    await migrate(settings.database_url, schema="usage", directory=MIGRATIONS)
    with Telemetry.start("usage", settings) as telemetry:
        async with (
            Database(settings.database_url) as database,
            connect_redis(settings.redis_url, timeout_s=settings.redis_timeout_s) as redis,
        ):
            clock = SystemClock()
            metrics = UsageMetrics(meter=telemetry.meter)
            counters = Counters(redis=redis, clock=clock)
            store = UsageStore(database=database)
            check_rate = CheckRate(
                policy=RatePolicy(tiers=settings.tiers),
                counters=RateCounters(counters=counters),
                metrics=metrics,
                fail_open=settings.rate_limit_fail_open,
            )
            quota = Quota(
                tiers=settings.tiers,
                counters=QuotaCounters(counters=counters, day_rows=store.day),
                store=store,
                clock=clock,
                metrics=metrics,
                lease_for=timedelta(seconds=settings.lease_ttl_s),
                fail_open=settings.quota_fail_open,
            )
            server = Server(
                settings=settings,
                service="usage",
                telemetry=telemetry,
                public_services=["chatmesh.usage.v1.UsageService"],
            )
            add_UsageServiceServicer_to_server(UsageServicer(quota=quota), server.grpc)
            server.grpc.add_generic_rpc_handlers((EnvoyRateLimitServicer(check_rate=check_rate).handler(),))
            server.add_check("database", database.check)
            server.add_check("redis", counters.check)
            await server.run()


if __name__ == "__main__":
    launch(UsageSettings, main, service="usage")
