"""Settings come from the environment, are read once, and are checked before anything is started."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, NoReturn, TypeVar

import uvloop
from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.runtime.logging import configure_logging


class SettingsError(Exception):
    """The settings, or a file that they name, cannot be used. The text says which and what to do."""


def _with_port(address: str) -> str:
    if int(address.rpartition(":")[2]) > 65_535:
        raise ValueError("a port is at most 65535")
    return address


Listen = Annotated[str, Field(pattern=r"^[^\s:]+:[0-9]{1,5}$"), AfterValidator(_with_port)]
"""`host:port`."""
Target = Annotated[str, Field(min_length=1)]
"""A gRPC target, such as `host:port`."""
DatabaseUrl = Annotated[str, Field(pattern=r"^postgres(ql)?://")]
"""URL of PostgreSQL or CockroachDB."""
RedisUrl = Annotated[str, Field(pattern=r"^(rediss?|unix)://")]
"""URL of Redis or Valkey."""


class ServiceSettings(BaseSettings):
    """Settings that every service has. Variables are prefixed by `CHATMESH_`: `listen` is `CHATMESH_LISTEN`."""

    model_config = SettingsConfigDict(env_prefix="CHATMESH_", frozen=True, extra="ignore")

    listen: Listen = Field("127.0.0.1:0", description="host:port of the gRPC server; port 0 takes a free one")
    metrics_listen: Listen = Field("127.0.0.1:0", description="host:port of Prometheus' /metrics")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="lowest level that is logged")
    otlp_endpoint: str = Field("", description="OTLP/gRPC target for traces and metrics; empty sends nothing")
    drain_grace_s: float = Field(10.0, ge=0, description="seconds that running calls get after SIGTERM")
    replica_id: str = Field("", description="name of this process, unique among those that live; empty takes host:pid")
    region: str = Field("local", description="region this process runs in")
    zone: str = Field("local", description="zone this process runs in")

    @property
    def replica(self) -> str:
        """The name of this process."""
        return self.replica_id or f"{socket.gethostname()}:{os.getpid()}"


SettingsT = TypeVar("SettingsT", bound=ServiceSettings)


def load_settings(settings_type: type[SettingsT]) -> SettingsT:
    """Read the settings from the environment.

    Raises:
        SettingsError: naming each variable that is wrong.
    """
    try:
        return settings_type()
    except ValidationError as error:
        prefix = settings_type.model_config.get("env_prefix", "")
        lines = [
            f"{prefix}{'_'.join(str(part) for part in problem['loc'])}".upper() + f": {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("; ".join(lines)) from error


def launch(settings_type: type[SettingsT], main: Callable[[SettingsT], Awaitable[None]], *, service: str) -> NoReturn:
    """Run a service as the process's main program.

    `--check-config` reads and checks the settings and exits. Exit codes: 0 drained or checked, 1 failed,
    2 settings that cannot be used.
    """
    parser = argparse.ArgumentParser(prog=f"python -m services.{service}", description=f"chatmesh {service} service")
    parser.add_argument("--check-config", action="store_true", help="check the settings and exit")
    arguments = parser.parse_args()
    try:
        settings = load_settings(settings_type)
        configure_logging(service=service, level=settings.log_level, replica=settings.replica)
        if arguments.check_config:
            sys.stdout.write(f"{service}: settings are valid\n")
            sys.exit(0)
        _collect_rarely()
        uvloop.run(_as_coroutine(main(settings)))
    except SettingsError as error:
        sys.stderr.write(f"{service}: {error}\n")
        sys.exit(2)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(1)
    sys.exit(0)


def _collect_rarely() -> None:
    """Spare the collector what lives as long as the process, and most of its rounds.

    A call leaves few cycles behind, but makes so many objects that by default the whole heap is walked several times a
    second, for about a twentieth of what a turn costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def _as_coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable
