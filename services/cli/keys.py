"""The key of a local mesh: signs tokens, and gives Envoy the public half as a JWKS file."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from services.cli.errors import CliError

if TYPE_CHECKING:
    from pathlib import Path

ISSUER = "chatmesh"
AUDIENCE = "chatmesh"
_ALGORITHM = "ES256"
_KEY_ID = "local"


class SigningKey:
    """The private key under `folder`, made at first use. Only the user of the mesh can read it."""

    def __init__(self, folder: Path) -> None:
        self._private = folder / "signing_key.pem"
        self.jwks_file = folder / "jwks.json"

    def ensure(self) -> None:
        """Make the key and the JWKS file if they are missing."""
        if not self._private.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            self._private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(self._private, pem, mode=0o600)
        if not self.jwks_file.exists() or self.jwks_file.stat().st_mtime < self._private.stat().st_mtime:
            entry = ECAlgorithm.to_jwk(self._load().public_key(), as_dict=True)
            entry |= {"kid": _KEY_ID, "alg": _ALGORITHM, "use": "sig"}
            _write(self.jwks_file, json.dumps({"keys": [entry]}).encode(), mode=0o644)

    def sign(self, *, user: str, tier: str, ttl_s: float, residency: str = "", tenant: str = "") -> str:
        """A token that says who calls (`sub`), what they may use (`tier`; empty leaves the mesh's default), where
        their data must stay (`residency`; empty for anywhere), and to whom they belong (`tenant`; empty for nobody).
        """
        self.ensure()
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now, "exp": now + int(ttl_s),
        }  # fmt: skip
        if tier:
            claims["tier"] = tier
        if residency:
            claims["residency"] = residency
        if tenant:
            claims["tenant"] = tenant
        return jwt.encode(claims, self._load(), algorithm=_ALGORITHM, headers={"kid": _KEY_ID})

    def _load(self) -> ec.EllipticCurvePrivateKey:
        try:
            key = serialization.load_pem_private_key(self._private.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise CliError(
                f"cannot read the signing key {self._private}: {error}. Delete it to make another."
            ) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise CliError(f"{self._private} is not an ES256 key. Delete it to make another.")
        return key


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Write the whole file or none of it."""
    scratch = path.with_name(path.name + ".new")
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    scratch.replace(path)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_duration_s(text: str) -> float:
    """Seconds of `90s`, `15m`, `24h` or `7d`.

    Raises:
        ValueError: it is not of that form, or is nothing at all.
    """
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.replace(".", "", 1).isdigit() or float(number) <= 0:
        raise ValueError(f"{text!r} is not a duration such as 90s, 15m, 24h or 7d")
    return float(number) * _UNITS[unit]
