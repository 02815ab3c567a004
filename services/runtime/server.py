"""The one server that every service is built on."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.runtime.interceptor import CallInterceptor
from services.runtime.settings import ServiceSettings, SettingsError
from services.runtime.telemetry import Telemetry
from services.runtime.validation import Validator

_log = logging.getLogger(__name__)

Check = Callable[[], Awaitable[None]]
"""Asks a dependency; raises when it does not answer."""

CHECK_INTERVAL_S = 1.0
CHECK_TIMEOUT_S = 2.0
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_OPTIONS = [
    # Two servers on one port would share its calls silently; a clash must be an error.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Envoy and our own clients ping idle streams; the default would answer with GOAWAY too_many_pings.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
]


class Server:
    """A gRPC server with health, reflection, graceful drain, and the interceptor around every call.

    Add servicers to `grpc`, checks of dependencies with `add_check`, then `run`.
    """

    def __init__(
        self, *, settings: ServiceSettings, service: str, telemetry: Telemetry, public_services: Sequence[str]
    ) -> None:
        self._settings = settings
        self._service = service
        self._telemetry = telemetry
        self._names = ["", *public_services]
        self._checks: dict[str, Check] = {}
        self._failing: dict[str, str] = {}
        self._on_drain: list[Check] = []
        self._on_listening: list[Callable[[str], None]] = []
        self._serving = False
        self._stop = asyncio.Event()
        self.grpc = grpc.aio.server(
            interceptors=[CallInterceptor(telemetry=telemetry, validator=Validator())], options=_OPTIONS
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        reflection.enable_server_reflection([*public_services, health.SERVICE_NAME, reflection.SERVICE_NAME], self.grpc)
        self._dependency_up = telemetry.meter.create_gauge(
            "chatmesh.dependency.up", description="1 when a dependency answers, 0 when it does not."
        )

    def add_check(self, name: str, check: Check) -> None:
        """Be SERVING only while `check` passes. It is asked every second."""
        self._checks[name] = check

    def on_listening(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with `host:port` once calls are taken there."""
        self._on_listening.append(callback)

    def on_drain(self, callback: Check) -> None:
        """Call `callback` when draining begins, before running calls are waited for."""
        self._on_drain.append(callback)

    def stop(self) -> None:
        """Begin to drain, as SIGTERM does."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain.

        Raises:
            SettingsError: when the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            port = self.grpc.add_insecure_port(self._settings.listen)
        except RuntimeError as error:
            raise SettingsError(f"cannot listen on {self._settings.listen}: is the port taken?") from error
        await self._set_health(serving=False)
        await self.grpc.start()
        address = f"{self._settings.listen.rpartition(':')[0]}:{port}"
        for callback in self._on_listening:
            callback(address)
        _log.info("listening", extra={"address": address, "metrics_address": self._telemetry.metrics_address})
        watcher = asyncio.create_task(self._watch_dependencies(), name="dependencies")
        try:
            await self._stop.wait()
        finally:
            watcher.cancel()
            await self._drain()

    async def _drain(self) -> None:
        _log.info("draining")
        await self._health.enter_graceful_shutdown()
        for outcome in await asyncio.gather(*(callback() for callback in self._on_drain), return_exceptions=True):
            if isinstance(outcome, Exception):
                _log.error("drain failed", exc_info=outcome)
        await self.grpc.stop(self._settings.drain_grace_s)
        _log.info("stopped")

    async def _watch_dependencies(self) -> None:
        while True:
            await asyncio.gather(*(self._ask(name, check) for name, check in self._checks.items()))
            serving = not self._failing
            if serving is not self._serving:
                self._serving = serving
                await self._set_health(serving=serving)
                _log.log(
                    logging.INFO if serving else logging.WARNING,
                    "serving" if serving else "not serving",
                    extra={"failing": dict(self._failing)},
                )
            # Sooner while something is missing, so that a start takes no longer than its slowest dependency.
            await asyncio.sleep(CHECK_INTERVAL_S if serving else CHECK_INTERVAL_S / 10)

    async def _ask(self, name: str, check: Check) -> None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await check()
        except Exception as error:  # noqa: BLE001 - whatever a dependency raises, it is down
            self._failing[name] = type(error).__name__
            self._dependency_up.set(0, {"dependency": name})
        else:
            self._failing.pop(name, None)
            self._dependency_up.set(1, {"dependency": name})

    async def _set_health(self, *, serving: bool) -> None:
        response = health_pb2.HealthCheckResponse
        status = response.SERVING if serving else response.NOT_SERVING
        for name in self._names:
            await self._health.set(name, status)
