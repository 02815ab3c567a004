"""Tokens of an identity provider whose keys the edge fetches, beside those of the local mesh."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.mesh_process import MeshProcess, eventually, running_mesh

ISSUER = "https://id.example.test/"


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def jwks_uri(key: ec.EllipticCurvePrivateKey) -> Iterator[str]:
    public = json.loads(ECAlgorithm.to_jwk(key.public_key()))
    body = json.dumps({"keys": [{**public, "kid": "theirs", "alg": "ES256", "use": "sig"}]}).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/jwks.json"
    server.shutdown()


@pytest.fixture(scope="module")
def trusting_mesh(jwks_uri: str) -> Iterator[MeshProcess]:
    with running_mesh(extra={"CHATMESH_JWKS_URI": jwks_uri, "CHATMESH_JWT_ISSUER": ISSUER}) as mesh:
        yield mesh


def token(key: ec.EllipticCurvePrivateKey, *, issuer: str = ISSUER, audience: str = "chatmesh") -> str:
    claims = {"iss": issuer, "aud": audience, "sub": "them", "tier": "plus", "exp": int(time.time()) + 600}
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": "theirs"})


def status(mesh: MeshProcess, bearer: str) -> int:
    return httpx.get(f"{mesh.url}/v1/usage", headers={"authorization": f"Bearer {bearer}"}).status_code


def test_both_kinds_of_tokens_are_believed_and_no_others(
    trusting_mesh: MeshProcess, key: ec.EllipticCurvePrivateKey
) -> None:
    eventually(lambda: status(trusting_mesh, token(key)), lambda code: code == 200)
    answer = httpx.get(f"{trusting_mesh.url}/v1/usage", headers={"authorization": f"Bearer {token(key)}"})
    assert answer.json()["tier"] == "plus"
    assert status(trusting_mesh, trusting_mesh.token(user="me")) == 200
    for wrong in (
        token(key, audience="others"),
        token(key, issuer="https://else.test/"),
        # Signed by another, or by the right one in the name of the local mesh.
        token(ec.generate_private_key(ec.SECP256R1())),
        token(key, issuer="chatmesh"),
    ):
        assert status(trusting_mesh, wrong) == 401
