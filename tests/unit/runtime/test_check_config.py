"""`python -m services.<name> --check-config`: what it says and how it exits, before anything is started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONVERSATION = {
    "CHATMESH_DATABASE_URL": "postgresql://user:a-password@db/chatmesh",
    "CHATMESH_REDIS_URL": "redis://127.0.0.1:6379/0",
    "CHATMESH_ROUTER_ADDRESS": "router:1",
    "CHATMESH_CONTEXT_ADDRESS": "context:1",
    "CHATMESH_MODERATION_ADDRESS": "moderation:1",
    "CHATMESH_USAGE_ADDRESS": "usage:1",
}


def check(service: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CHATMESH_")}
    return subprocess.run(
        [sys.executable, "-m", f"services.{service}", "--check-config"],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_valid_settings() -> None:
    done = check("conversation", CONVERSATION)
    assert (done.returncode, done.stdout) == (0, "conversation: settings are valid\n")


def test_each_variable_that_is_wrong_is_named_and_no_value_is_shown() -> None:
    wrong = CONVERSATION | {"CHATMESH_STALL_TIMEOUT_S": "0", "CHATMESH_LISTEN": "nowhere"}
    del wrong["CHATMESH_ROUTER_ADDRESS"]
    done = check("conversation", wrong)
    assert done.returncode == 2
    assert done.stdout == ""
    for name in ("STALL_TIMEOUT_S", "LISTEN", "ROUTER_ADDRESS"):
        assert f"CHATMESH_{name}: " in done.stderr
    assert "a-password" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("url", ["mysql://a-password@db/x", "", "a-password"])
def test_a_database_that_is_none(url: str) -> None:
    done = check("conversation", CONVERSATION | {"CHATMESH_DATABASE_URL": url})
    assert done.returncode == 2
    assert "CHATMESH_DATABASE_URL: " in done.stderr
    assert "a-password" not in done.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = check("inference", {"CHATMESH_MODELS_FILE": str(tmp_path / "none.yaml")})
    assert done.returncode == 2
    assert "none.yaml" in done.stderr
    assert "Traceback" not in done.stderr
