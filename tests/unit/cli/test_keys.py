from __future__ import annotations

import json
import stat
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from jwt.algorithms import ECAlgorithm

from services.cli.errors import CliError
from services.cli.keys import SigningKey, parse_duration_s


def _verify(key: SigningKey, token: str) -> dict[str, object]:
    (entry,) = json.loads(key.jwks_file.read_text())["keys"]
    public = ECAlgorithm.from_jwk(entry)
    assert isinstance(public, EllipticCurvePublicKey)
    assert jwt.get_unverified_header(token)["kid"] == entry["kid"]
    return jwt.decode(token, public, algorithms=["ES256"], audience="chatmesh", issuer="chatmesh")


def test_a_token_is_verified_by_the_jwks_file(tmp_path: Path) -> None:
    key = SigningKey(tmp_path / "keys")

    claims = _verify(key, key.sign(user="alice", tier="pro", ttl_s=60))

    assert claims["sub"] == "alice"
    assert claims["tier"] == "pro"
    bare = _verify(key, key.sign(user="alice", tier="", ttl_s=60))
    assert not {"tier", "residency", "tenant"} & bare.keys()
    claims = _verify(key, key.sign(user="alice", tier="", ttl_s=60, residency="eu", tenant="acme"))
    assert (claims["residency"], claims["tenant"]) == ("eu", "acme")


def test_the_key_is_private_and_stays_the_same(tmp_path: Path) -> None:
    first = SigningKey(tmp_path)
    token = first.sign(user="alice", tier="", ttl_s=60)

    assert stat.S_IMODE((tmp_path / "signing_key.pem").stat().st_mode) == 0o600
    assert _verify(SigningKey(tmp_path), token)["sub"] == "alice"


def test_an_expired_token_is_refused(tmp_path: Path) -> None:
    key = SigningKey(tmp_path)
    with pytest.raises(jwt.ExpiredSignatureError):
        _verify(key, key.sign(user="alice", tier="", ttl_s=-1))


def test_a_broken_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "signing_key.pem").write_text("nonsense")
    with pytest.raises(CliError, match=r"signing_key\.pem"):
        SigningKey(tmp_path).sign(user="alice", tier="", ttl_s=60)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "24", "-1h", "0s", "1w", "1e3s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration_s(text)
