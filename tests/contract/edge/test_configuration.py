"""What the values of the template do, and which are refused."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_reflection.v1alpha import reflection_pb2_grpc

from chatmesh.conversation.v1 import conversation_pb2
from services.cli.edge import EdgeError, JwtConfig, TlsConfig, render, validate
from tests.contract.edge.conftest import MakeConfig
from tests.contract.edge.fakes import Script
from tests.contract.edge.process import AUDIENCE, ISSUER, Keys, running_edge

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def empty(_request: object, _context: object) -> object:
    return conversation_pb2.Conversation()


async def test_envoy_takes_every_value(make_config: MakeConfig, directory: Path) -> None:
    config = make_config(
        "all",
        conversation=("conversation.mesh.svc:50051", "[::1]:50051"),
        usage=("unix:/run/usage.sock",),
        jwt=JwtConfig(issuer="i", audiences=("a", "b"), jwks_uri="https://id.test/.well-known/jwks.json"),
        cors_origins=("*",),
        otlp_endpoint="https://collector.test:4317",
        max_heap_bytes=1 << 30,
        concurrency=4,
        trusted_proxies=1,
        reflection=False,
    )
    path = directory / "all.yaml"
    path.write_text(render(config), encoding="utf-8")
    await asyncio.to_thread(validate, path)
    path.write_text(render(config).replace("LEAST_REQUEST", "BEST"), encoding="utf-8")
    with pytest.raises(EdgeError, match="BEST"):
        await asyncio.to_thread(validate, path)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"jwt": JwtConfig(issuer="i", audiences=("a",))}, "exactly one"),
        ({"jwt": JwtConfig(issuer="i", audiences=(), jwks_uri="https://x")}, "audiences"),
        ({"conversation": ()}, "no target"),
        ({"conversation": ("nowhere",)}, "nowhere"),
        ({"usage": ("host:port",)}, "host:port"),
        ({"otlp_endpoint": "collector:4317"}, "http"),
    ],
)
async def test_values_that_make_no_sense(make_config: MakeConfig, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(EdgeError, match=word):
        render(make_config("wrong", **changes))


async def test_every_string_is_quoted(make_config: MakeConfig) -> None:
    config = make_config("quoted")
    hostile = replace(config.jwt, issuer='x"\n      admin: {}\n#')
    assert "\n      admin: {}" not in render(replace(config, jwt=hostile))


async def test_keys_from_an_address(make_config: MakeConfig, directory: Path, keys: Keys, script: Script) -> None:
    async with _serving(keys.jwks()) as uri:
        config = make_config("remote", jwt=JwtConfig(issuer=ISSUER, audiences=(AUDIENCE,), jwks_uri=uri))
        script.on("GetConversation", empty)
        async with running_edge(config, directory / "remote") as edge, edge.http() as http:
            assert (await http.get("/v1/conversations/c", headers=keys.bearer())).status_code == 200
            assert (await http.get("/v1/conversations/c", headers=Keys().bearer())).status_code == 401


async def test_a_name_as_target(make_config: MakeConfig, directory: Path, keys: Keys, script: Script) -> None:
    script.on("GetConversation", empty)
    config = make_config("named")
    port = config.conversation[0].rpartition(":")[2]
    named = replace(config, conversation=(f"localhost:{port}",))
    async with running_edge(named, directory / "named") as edge, edge.http() as http:
        assert (await http.get("/v1/conversations/c", headers=keys.bearer())).status_code == 200


async def test_reflection_can_be_off(make_config: MakeConfig, directory: Path) -> None:
    config = make_config("closed", reflection=False)
    async with running_edge(config, directory / "closed") as edge, grpc.aio.insecure_channel(edge.address) as channel:
        # Nothing is asked: the refusal may come before a question has left.
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_with_a_certificate(make_config: MakeConfig, directory: Path, keys: Keys, script: Script) -> None:
    certificate, private_key = _certificate(directory)
    script.on("GetConversation", empty)
    config = make_config("tls", tls=TlsConfig(certificate=certificate, private_key=private_key))
    trust = ssl.create_default_context(cafile=str(certificate))
    async with (
        running_edge(config, directory / "tls") as edge,
        httpx.AsyncClient(base_url=f"https://localhost:{edge.port}", verify=trust, trust_env=False) as http,
    ):
        response = await http.get("/v1/conversations/c", headers=keys.bearer())
        credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{edge.port}", credentials) as channel:
            await asyncio.wait_for(channel.channel_ready(), 5)
    assert response.status_code == 200
    assert response.headers["strict-transport-security"].startswith("max-age=")


def _certificate(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "edge.crt", directory / "edge.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return paths


@asynccontextmanager
async def _serving(body: str) -> AsyncIterator[str]:
    """A web server that answers everything with `body`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write((head + body).encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"
