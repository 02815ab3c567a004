"""Programs in other languages chat through the edge, each with its own gRPC or HTTP library and nothing of ours but
the generated contracts.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.mesh_process import MeshProcess

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
NODE = ROOT / ".venv" / "bin" / "node"
NODE_PACKAGES = HERE / "node_modules" / ".installed"
GO_CLIENT = ROOT / ".build" / "bin" / "go-client"

TIMEOUT_S = 110.0


def need(*paths: Path) -> None:
    """Skips the test where its toolchain was not set up; in CI that is a failure."""
    missing = [path.relative_to(ROOT).as_posix() for path in paths if not path.exists()]
    if not missing:
        return
    message = f"did not run: {', '.join(missing)} missing; `make test` sets it up"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def chat(mesh: MeshProcess, *command: Path, user: str) -> str:
    """Runs a client against the mesh and returns what it printed."""
    done = subprocess.run(
        command,
        env={**os.environ, "CHATMESH_URL": mesh.url, "CHATMESH_TOKEN": mesh.token(user=user)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_go_chats_over_grpc(mesh: MeshProcess) -> None:
    need(GO_CLIENT)
    assert chat(mesh, GO_CLIENT, user="go-client").strip()


def test_typescript_chats_over_grpc_web(mesh: MeshProcess) -> None:
    need(NODE, NODE_PACKAGES)
    assert chat(mesh, NODE, HERE / "ts" / "chat.ts", user="ts-client").strip()


def test_the_openai_sdk_for_node_chats_and_raises_its_own_errors(mesh: MeshProcess) -> None:
    need(NODE, NODE_PACKAGES)
    assert chat(mesh, NODE, HERE / "openai_node" / "chat.ts", user="openai-node").strip()


def test_the_openai_sdk_for_node_asks_for_all_that_it_can(mesh: MeshProcess) -> None:
    need(NODE, NODE_PACKAGES)
    assert chat(mesh, NODE, HERE / "openai_node" / "options.ts", user="openai-node-options").strip()
