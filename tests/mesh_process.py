"""A whole mesh of its own for tests: real processes, real ports, a home that is thrown away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

ROOT = Path(__file__).parent.parent
SYNTHETIC_MODELS = ROOT / "services" / "router" / "models.synthetic.yaml"
START_TIMEOUT_S = 110.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MeshProcess:
    """A mesh that runs in the background."""

    home: Path
    port: int
    environment: Mapping[str, str]

    @property
    def url(self) -> str:
        """Of the edge."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def grpc_target(self) -> str:
        """Of the edge."""
        return f"127.0.0.1:{self.port}"

    def chatmesh(self, *arguments: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the `chatmesh` command against this mesh."""
        return subprocess.run(
            [sys.executable, "-m", "services.cli", *arguments],
            env=dict(self.environment),
            input=stdin,
            capture_output=True,
            text=True,
            check=check,
            timeout=START_TIMEOUT_S,
            cwd=ROOT,
        )

    def token(self, *, user: str, tier: str = "enterprise") -> str:
        """A token; of a tier that tests do not exhaust unless they mean to."""
        return self.chatmesh("token", "--user", user, "--tier", tier).stdout.strip()

    def status(self) -> dict[str, dict[str, Any]]:
        """What `chatmesh status --json` says, by name of the process."""
        done = self.chatmesh("status", "--json", check=False)
        return {process["name"]: process for process in json.loads(done.stdout)["processes"]}

    def metrics(self, name: str) -> str:
        """What a process says on its metrics port, as it is now."""
        lines = (self.home / "logs" / f"{name}.log").read_text().splitlines()
        started = [json.loads(line) for line in lines if '"listening"' in line]
        return httpx.get(f"http://{started[-1]['metrics_address']}/metrics", timeout=5).text

    def kill(self, name: str) -> int:
        """Kill a process without warning. Returns the pid that it had."""
        pid: int = self.status()[name]["pid"]
        os.kill(pid, signal.SIGKILL)
        return pid


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(ask: Callable[[], T], accept: Callable[[T], bool], *, within_s: float = 30.0) -> T:
    """Ask until the answer is accepted, and return it; fails with the last answer when time is up."""
    give_up = time.monotonic() + within_s
    while True:
        answer = ask()
        if accept(answer):
            return answer
        assert time.monotonic() < give_up, f"still {answer!r} after {within_s} s"
        time.sleep(0.05)


@contextmanager
def running_mesh(*, models: Path = SYNTHETIC_MODELS, extra: Mapping[str, str] | None = None) -> Iterator[MeshProcess]:
    """Start a mesh, and stop it and delete its home at the end."""
    home = Path(tempfile.mkdtemp(prefix="chatmesh-test-"))
    # PostgreSQL does not run as root and must be able to pass through.
    home.chmod(0o711)
    port = free_port()
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("CHATMESH_")},
        "CHATMESH_HOME": str(home),
        "CHATMESH_PORT": str(port),
        "CHATMESH_MODELS_FILE": str(models),
        **(extra or {}),
    }
    mesh = MeshProcess(home=home, port=port, environment=environment)
    try:
        started = mesh.chatmesh("up", "--detach", check=False)
        assert started.returncode == 0, started.stdout + started.stderr
        yield mesh
    finally:
        mesh.chatmesh("down", check=False)
        shutil.rmtree(home, ignore_errors=True)
