"""Asks one process whether it can do its work. The supervisor and `status` ask in the same way.

Targets: `unix:<path>` or `host:port`. PostgreSQL and Redis are asked in their own protocols by hand: that is a few
bytes each, and saves the supervisor two drivers.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2

from services.cli.state import Kind

TIMEOUT_S = 2.0
DATABASE = "chatmesh"
DATABASE_USER = "postgres"
_PROTOCOL_3 = 196_608


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a process serves; if not, why, in a few words."""

    serving: bool
    reason: str = ""


SERVING = Health(serving=True)


async def probe(kind: Kind, target: str) -> Health:
    """Ask once; takes `TIMEOUT_S` at most and never raises for a process that does not answer."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            match kind:
                case Kind.POSTGRES:
                    return await _postgres(target)
                case Kind.REDIS:
                    return await _redis(target)
                case Kind.SERVICE:
                    return await _service(target)
                case Kind.EDGE:
                    return await _edge(target)
    except TimeoutError:
        return Health(serving=False, reason="no answer in time")
    except (OSError, asyncio.IncompleteReadError) as error:
        return Health(serving=False, reason="not listening" if isinstance(error, OSError) else "closed the connection")


async def _open(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.startswith("unix:"):
        return await asyncio.open_unix_connection(target.removeprefix("unix:"))
    host, _, port = target.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def _postgres(target: str) -> Health:
    """Log in: before recovery is over, PostgreSQL takes connections and refuses the login."""
    reader, writer = await _open(target)
    try:
        body = b"".join(part.encode() + b"\0" for part in ("user", DATABASE_USER, "database", DATABASE)) + b"\0"
        writer.write(struct.pack("!ii", len(body) + 8, _PROTOCOL_3) + body)
        tag, length = struct.unpack("!ci", await reader.readexactly(5))
        answer = await reader.readexactly(length - 4)
        if tag != b"E":
            writer.write(b"X" + struct.pack("!i", 4))
            return SERVING
        texts = [field[1:].decode(errors="replace") for field in answer.split(b"\0") if field[:1] == b"M"]
        return Health(serving=False, reason=texts[0] if texts else "refused the login")
    finally:
        writer.close()


async def _redis(target: str) -> Health:
    reader, writer = await _open(target)
    try:
        writer.write(b"PING\r\n")
        answer = (await reader.readline()).decode(errors="replace").strip()
        return SERVING if answer == "+PONG" else Health(serving=False, reason=answer.lstrip("-") or "no answer")
    finally:
        writer.close()


async def _edge(target: str) -> Health:
    reader, writer = await _open(target)
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        words = (await reader.readline()).decode(errors="replace").split(" ", 2)
        status = words[1] if len(words) > 1 else ""
        return SERVING if status == "200" else Health(serving=False, reason=f"/healthz answers {status or 'nothing'}")
    finally:
        writer.close()


async def _service(target: str) -> Health:
    # Before the port is open a channel would back off and then answer late; a bare connection says so at once.
    _, writer = await _open(target)
    writer.close()
    async with grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            return Health(serving=False, reason=error.details() or error.code().name)
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return SERVING
    return Health(serving=False, reason=health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
