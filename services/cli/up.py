"""`chatmesh up`: starts the mesh, says when a chat would succeed, keeps it running, stops it in order."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from services.cli.edge import EdgeError, render
from services.cli.embedded import EmbeddedServer, prepare_postgres, prepare_redis
from services.cli.errors import CliError
from services.cli.home import Home, HomeBusyError
from services.cli.keys import SigningKey
from services.cli.leftovers import end_leftovers
from services.cli.mesh import (
    DEFAULT_MODELS_FILE,
    Places,
    Stores,
    check_first_chat,
    check_parts,
    edge_config,
    mesh_specs,
)
from services.cli.ports import LOOPBACK, free_ports, is_taken, require_free
from services.cli.probes import probe
from services.cli.progress import Progress, explain_start_error
from services.cli.readiness import await_first_chat
from services.cli.state import MeshRecord, Phase, ProcessId, ProcessRecord, read_state, write_state
from services.cli.supervisor import StartError, Supervisor
from services.runtime.model_registry import ModelRegistry
from services.runtime.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from services.cli.process import ProcessSpec
    from services.cli.settings import CliSettings

START_TIMEOUT_S = 120.0
FIRST_CHAT_TIMEOUT_S = 60.0
TOKEN_TTL_S = 24 * 3600.0
_PORT_ATTEMPTS = 3
_INTERRUPTED = 130


@dataclass(slots=True)
class _StateFile:
    """The mesh's record, written at every change."""

    path: Path
    record: MeshRecord

    def phase(self, phase: Phase) -> None:
        self.record = replace(self.record, phase=phase)
        write_state(self.path, self.record)

    def processes(self, processes: tuple[ProcessRecord, ...]) -> None:
        self.record = self.record.with_processes(processes)
        write_state(self.path, self.record)


def url_of(port: int) -> str:
    """The edge's address, for people and clients."""
    return f"http://{LOOPBACK}:{port}"


def already_running(home: Home) -> CliError:
    """What to say to the second one who starts a mesh in this home."""
    record = read_state(home.state_file)
    if record is None:
        return CliError(f"chatmesh is already being started in {home.root}")
    return CliError(
        f"chatmesh is already running at {record.address} (pid {record.supervisor.pid}, {record.phase}). "
        "Stop it with `chatmesh down`, or set CHATMESH_HOME and CHATMESH_PORT for a second one."
    )


def try_it(address: str, token: str) -> str:
    """Lines to paste into another shell."""
    body = '{"model": "auto", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
    return (
        f"  export CHATMESH_TOKEN={token}\n"
        f'  curl -N {address}/v1/chat/completions -H "authorization: Bearer $CHATMESH_TOKEN" '
        f"-H 'content-type: application/json' -d '{body}'"
    )


def up(
    settings: CliSettings, *, environment: Mapping[str, str], quiet: bool, show_token: bool, ready_fd: int | None
) -> int:
    """Run the mesh in the foreground until it is told to stop. Returns the exit code.

    `ready_fd` gets a byte when the mesh is ready.

    Raises:
        CliError: it cannot be started; nothing runs then.
    """
    home = settings.home
    home.prepare()
    progress = Progress(out=sys.stdout, quiet=quiet)
    try:
        with home.locked():
            try:
                return asyncio.run(
                    _Mesh(settings=settings, environment=environment, progress=progress).run(
                        show_token=show_token, ready_fd=ready_fd
                    )
                )
            finally:
                home.state_file.unlink(missing_ok=True)
                home.remove_short_dir()
    except HomeBusyError as error:
        raise already_running(home) from error


class _Mesh:
    """One run of the mesh, from the first check to the last stop."""

    def __init__(self, *, settings: CliSettings, environment: Mapping[str, str], progress: Progress) -> None:
        self._settings = settings
        self._home = settings.home
        self._environment = environment
        self._progress = progress
        self._begun = time.monotonic()
        self._key = SigningKey(self._home.keys)
        self._supervisor: Supervisor | None = None
        self._stop = asyncio.Event()

    async def run(self, *, show_token: bool, ready_fd: int | None) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        left = end_leftovers(self._home)
        if left:
            self._progress.step(f"ended what an earlier run left behind: {', '.join(left)}")
        require_free(self._settings.port)
        supervisor_id = ProcessId.of(os.getpid())
        if supervisor_id is None:
            raise CliError("cannot read this process's own start time")
        address = url_of(self._settings.port)
        state = _StateFile(
            self._home.state_file,
            MeshRecord(supervisor=supervisor_id, phase=Phase.STARTING, address=address, started_at=time.time()),
        )
        state.phase(Phase.STARTING)
        stopped = asyncio.create_task(self._stop.wait())
        running = asyncio.create_task(self._start(state))
        try:
            await asyncio.wait({stopped, running}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                return _INTERRUPTED
            supervisor = await running
            token = self._key.sign(user="me", tier="", ttl_s=TOKEN_TTL_S)
            state.phase(Phase.READY)
            self._progress.say(f"chatmesh is ready at {address} ({time.monotonic() - self._begun:.1f} s)")
            if show_token:
                self._progress.say(try_it(address, token))
            if ready_fd is not None:
                os.write(ready_fd, b"1")
                os.close(ready_fd)
            await supervisor.run_until(self._stop)
            return 0
        finally:
            running.cancel()
            stopped.cancel()
            await asyncio.gather(running, stopped, return_exceptions=True)
            if self._supervisor is not None:
                if self._stop.is_set():
                    self._progress.say("stopping ...")
                state.phase(Phase.STOPPING)
                await self._supervisor.stop()
                self._progress.say("chatmesh is stopped")

    def _on_signal(self) -> None:
        if self._stop.is_set() and self._supervisor is not None:
            self._supervisor.hurry()
        self._stop.set()

    async def _start(self, state: _StateFile) -> Supervisor:
        self._progress.say(f"starting chatmesh in {self._home.root}")
        self._key.ensure()
        models_file = self._settings.models_file or DEFAULT_MODELS_FILE
        try:
            models = ModelRegistry.load(models_file)
        except SettingsError as error:
            raise CliError(str(error)) from error
        check_parts(models)
        check_first_chat(models, path=models_file)
        stores = self._stores()
        draw = random.Random()
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            ports = free_ports(Places.ports_needed(self._settings.replicas), draw=draw)
            places = Places.from_ports(ports, replicas=self._settings.replicas)
            specs = self._specs(places, stores=stores, models_file=models_file, models=models)
            supervisor = Supervisor(specs=specs, probe=probe, publish=state.processes, reporter=self._progress)
            self._supervisor = supervisor
            try:
                await supervisor.start(timeout_s=START_TIMEOUT_S)
            except StartError as error:
                if attempt == _PORT_ATTEMPTS or not _lost_its_port(error.spec):
                    raise CliError(explain_start_error(error)) from error
                self._progress.step(f"{error.spec.name} lost its port to another process; trying others")
                await supervisor.stop()
                continue
            token = self._key.sign(user="chatmesh-up", tier="", ttl_s=FIRST_CHAT_TIMEOUT_S * 2)
            await await_first_chat(port=self._settings.port, token=token, timeout_s=FIRST_CHAT_TIMEOUT_S)
            return supervisor
        raise CliError("no ports could be kept")

    def _stores(self) -> Stores:
        # Sockets and files that killed processes left behind.
        temporary = self._home.socket_dir("tmp")
        shutil.rmtree(temporary)
        temporary.mkdir(mode=0o700)
        embedded: list[EmbeddedServer] = []
        database_url, redis_url = self._settings.database_url, self._settings.redis_url
        if not database_url:
            folder = self._home.data / "postgres"
            if not folder.exists():
                self._progress.step("making the database ...")
            embedded.append(prepare_postgres(folder, socket_dir=self._home.socket_dir("postgres")))
            database_url = embedded[-1].url
        if not redis_url:
            embedded.append(prepare_redis(self._home.data / "redis", socket_dir=self._home.socket_dir("redis")))
            redis_url = embedded[-1].url
        return Stores(database_url=database_url, redis_url=redis_url, embedded=tuple(embedded))

    def _specs(
        self, places: Places, *, stores: Stores, models_file: Path, models: ModelRegistry
    ) -> tuple[ProcessSpec, ...]:
        admin = self._home.socket_dir("edge") / "admin.sock"
        admin.unlink(missing_ok=True)
        edge_file = self._home.run / "envoy.yaml"
        try:
            config = edge_config(
                port=self._settings.port,
                admin=f"unix:{admin}",
                places=places,
                jwks_file=self._key.jwks_file,
                otlp=self._environment.get("CHATMESH_OTLP_ENDPOINT", ""),
                identity_provider=self._settings.identity_provider,
                cors_origins=self._settings.cors_origins,
            )
            edge_file.write_text(render(config))
            return mesh_specs(
                home=self._home,
                places=places,
                stores=stores,
                models_file=models_file,
                models=models,
                edge=config,
                edge_file=edge_file,
                environment=self._environment,
            )
        except EdgeError as error:
            raise CliError(str(error)) from error


def _lost_its_port(spec: ProcessSpec) -> bool:
    ports = [address.rpartition(":")[2] for address in (spec.address, spec.metrics_address)]
    return any(port.isdigit() and is_taken(int(port)) for port in ports)
