"""What the command reads from its environment, once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from services.cli.errors import CliError
from services.cli.home import Home
from services.cli.replicas import parse_replicas

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.cli.edge import JwtConfig

DEFAULT_PORT = 8080


@dataclass(frozen=True, slots=True)
class CliSettings:
    """Empty text and None mean: not set."""

    home: Home
    port: int = DEFAULT_PORT
    database_url: str = ""
    redis_url: str = ""
    models_file: Path | None = None
    url: str = ""
    token: str = ""
    identity_provider: JwtConfig | None = None
    """Whose tokens the edge believes beside the local ones."""
    cors_origins: tuple[str, ...] = ("*",)
    """Origins of web pages that may call the edge."""
    replicas: Mapping[str, int] = field(default_factory=lambda: parse_replicas(""))
    """Number of processes of each service."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *, folder: Path) -> Self:
        """Read the `CHATMESH_` variables. Relative paths are taken from `folder`.

        Raises:
            CliError: one of them makes no sense.
        """

        def get(name: str) -> str:
            return environment.get(f"CHATMESH_{name}", "").strip()

        port = get("PORT") or str(DEFAULT_PORT)
        if not port.isdigit() or not 0 < int(port) < 65_536:
            raise CliError(f"CHATMESH_PORT is {port!r}; it must be a port number", exit_code=2)
        url = get("URL").rstrip("/")
        if url and not url.startswith(("http://", "https://")):
            raise CliError(f"CHATMESH_URL is {url!r}; it must begin with http:// or https://", exit_code=2)
        models = get("MODELS_FILE")
        jwks_uri, issuer = get("JWKS_URI"), get("JWT_ISSUER")
        if bool(jwks_uri) != bool(issuer):
            raise CliError(
                "set both CHATMESH_JWKS_URI, where the keys of your identity provider are, and CHATMESH_JWT_ISSUER, "
                "what its tokens say as `iss`",
                exit_code=2,
            )
        return cls(
            home=Home((folder / Path(get("HOME") or ".chatmesh").expanduser()).resolve()),
            port=int(port),
            database_url=get("DATABASE_URL"),
            redis_url=get("REDIS_URL"),
            models_file=(folder / Path(models).expanduser()).resolve() if models else None,
            url=url,
            token=get("TOKEN"),
            identity_provider=_identity_provider(issuer, get("JWT_AUDIENCE"), jwks_uri) if jwks_uri else None,
            cors_origins=tuple(origin.strip() for origin in (get("CORS_ORIGINS") or "*").split(",")),
            replicas=parse_replicas(get("REPLICAS")),
        )


def _identity_provider(issuer: str, audience: str, jwks_uri: str) -> JwtConfig:
    # Here, because most commands need nothing of the edge.
    from services.cli.edge import JwtConfig

    return JwtConfig(issuer=issuer, audiences=(audience or "chatmesh",), jwks_uri=jwks_uri)
