"""What the command reads from its environment, once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from services.cli.errors import CliError
from services.cli.home import Home

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        return cls(
            home=Home((folder / Path(get("HOME") or ".chatmesh").expanduser()).resolve()),
            port=int(port),
            database_url=get("DATABASE_URL"),
            redis_url=get("REDIS_URL"),
            models_file=(folder / Path(models).expanduser()).resolve() if models else None,
            url=url,
            token=get("TOKEN"),
        )
