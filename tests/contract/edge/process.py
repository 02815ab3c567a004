"""A real Envoy on free ports, and tokens that it believes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from services.cli.edge import EdgeConfig, command, render

ISSUER = "https://issuer.test"
AUDIENCE = "chatmesh"


class Keys:
    """A signing key, its public part as a key set, and tokens."""

    def __init__(self, kid: str = "test") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._kid = kid

    def jwks(self) -> str:
        """The key set that the edge is given."""
        public = jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return json.dumps({"keys": [{**public, "kid": self._kid, "alg": "ES256", "use": "sig"}]})

    def token(self, user: str | None = "alice", tier: str | None = "pro", **claims: Any) -> str:
        """A token of `user`, valid for a minute unless `claims` say otherwise; None leaves a claim out."""
        body = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 60, "sub": user, "tier": tier, **claims}
        present = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(present, self._key, algorithm="ES256", headers={"kid": self._kid})

    def bearer(self, user: str | None = "alice", tier: str | None = "pro", **claims: Any) -> dict[str, str]:
        """The header that carries such a token."""
        return {"authorization": f"Bearer {self.token(user, tier, **claims)}"}

    def metadata(self, user: str = "alice", tier: str | None = "pro") -> tuple[tuple[str, str], ...]:
        """The same for a gRPC call."""
        return tuple(self.bearer(user, tier).items())


async def until(condition: Callable[[], Awaitable[bool]], *, timeout_s: float = 15.0, what: str) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not in {timeout_s} s: {what}"
        await asyncio.sleep(0.02)


async def call(
    channel: grpc.aio.Channel, method: str, request: bytes = b"", *, headers: Mapping[str, str] | None = None
) -> bytes:
    """Call a unary method by its path, in bytes."""
    # The stubs of grpc.aio do not know that without serializers messages are bytes.
    multicallable: Any = channel.unary_unary(method)
    answer: bytes = await multicallable(request, metadata=tuple((headers or {}).items()))
    return answer


@dataclass(frozen=True, slots=True)
class Edge:
    """A running Envoy."""

    port: int
    admin: Path
    log: Path
    process: asyncio.subprocess.Process

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def http(self, **options: Any) -> httpx.AsyncClient:
        """A client of the edge."""
        return httpx.AsyncClient(base_url=self.url, timeout=20, trust_env=False, **options)

    def admin_client(self) -> httpx.AsyncClient:
        """A client of its admin port."""
        return httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(self.admin)), base_url="http://admin", timeout=5
        )

    def access_log(self) -> list[dict[str, Any]]:
        """The entries of the access log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if '"message":"request"' in line]


@asynccontextmanager
async def running_edge(config: EdgeConfig, directory: Path) -> AsyncIterator[Edge]:
    """Run Envoy with `config`, whose admin address is a socket in `directory`; gone at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    path, log = directory / "envoy.yaml", directory / "envoy.log"
    path.write_text(render(config), encoding="utf-8")
    admin = Path(config.admin.removeprefix("unix:"))
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command(path, config=config), stdout=output, stderr=output)
    try:
        port = await _port(process, admin, log)
        yield Edge(port, admin, log, process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _port(process: asyncio.subprocess.Process, admin: Path, log: Path) -> int:
    ports: list[int] = []

    async def ready() -> bool:
        assert process.returncode is None, log.read_text()[-3000:]
        transport = httpx.AsyncHTTPTransport(uds=str(admin))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
                if (await client.get("/ready")).status_code != 200:
                    return False
                statuses = (await client.get("/listeners?format=json")).json()["listener_statuses"]
        except httpx.TransportError:
            return False
        ports.extend(status["local_address"]["socket_address"]["port_value"] for status in statuses)
        return bool(ports)

    await until(ready, what="Envoy is ready")
    return ports[0]
