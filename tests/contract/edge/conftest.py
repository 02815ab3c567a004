from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio

from services.cli.edge import EdgeConfig, JwtConfig
from tests.contract.edge.fakes import Backend, Script, start_backend
from tests.contract.edge.process import AUDIENCE, ISSUER, Edge, Keys, running_edge, until

DESCRIPTOR_SET = Path(__file__).resolve().parents[3] / "gen" / "descriptor" / "chatmesh.binpb"
ORIGIN = "https://chat.test"
MAX_BODY_BYTES = 256 * 1024
MAX_IMPORT_BYTES = 24 * 1024 * 1024

MakeConfig = Callable[..., EdgeConfig]


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys()


@pytest.fixture(scope="session")
def directory() -> Iterator[Path]:
    # Not tmp_path: the path of a socket may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="edge-") as path:
        yield Path(path)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_backend() -> AsyncIterator[Backend]:
    backend = await start_backend(Script())
    yield backend
    await backend.stop()


@pytest.fixture(scope="session")
def make_config(shared_backend: Backend, keys: Keys, directory: Path) -> MakeConfig:
    """A configuration in front of the fakes; the name makes its files its own."""
    jwks = directory / "jwks.json"
    jwks.write_text(keys.jwks(), encoding="utf-8")

    def make(name: str, **changes: Any) -> EdgeConfig:
        values: dict[str, Any] = {
            "listen_port": 0,
            "admin": f"unix:{directory / name}.sock",
            "conversation": (shared_backend.conversation,),
            "usage": (shared_backend.usage,),
            "descriptor_set": DESCRIPTOR_SET,
            "jwt": JwtConfig(issuer=ISSUER, audiences=(AUDIENCE,), jwks_file=jwks),
            "cors_origins": (ORIGIN,),
            "max_body_bytes": MAX_BODY_BYTES,
            "max_import_bytes": MAX_IMPORT_BYTES,
        }
        return EdgeConfig(**(values | changes))

    return make


async def healthy(edge: Edge) -> None:
    """Wait until the edge has found its upstreams healthy."""

    async def ask() -> bool:
        async with edge.http() as client:
            return (await client.get("/healthz")).status_code == 200

    await until(ask, what="the edge is healthy")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def edge(make_config: MakeConfig, directory: Path) -> AsyncIterator[Edge]:
    async with running_edge(make_config("edge"), directory / "edge") as running:
        await healthy(running)
        yield running


@pytest.fixture
def backend(shared_backend: Backend) -> Iterator[Backend]:
    shared_backend.script.reset()
    yield shared_backend
    assert not shared_backend.script.unused, f"nothing called {shared_backend.script.unused}"


@pytest.fixture
def script(backend: Backend) -> Script:
    return backend.script


@pytest_asyncio.fixture(loop_scope="session")
async def http(edge: Edge) -> AsyncIterator[httpx.AsyncClient]:
    async with edge.http() as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def channel(edge: Edge) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(edge.address) as channel:
        yield channel
