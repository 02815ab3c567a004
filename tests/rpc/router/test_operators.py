"""The command line against a Router on a real port."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.rpc.router.calls import client

ROOT = Path(__file__).parents[3]
Wait = Callable[[Callable[[], object], str], None]
Start = Callable[..., Any]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "services.cli", *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_models_and_fleet(start_router: Start, start_replica: Start, wait_until: Wait) -> None:
    replica = start_replica("r1", models={"small": 4, "large": 2}, pool="gpu")
    replica.report(running=1, first_token_ms=40)
    router = start_router(replica)
    with client(router) as calls:
        wait_until(lambda: calls.model("large").ready_replicas == 1, "the replica reports")
    address = router.listening()
    rows = [line.split() for line in run("models", "--router", address).stdout.splitlines()]
    assert [row[:4] for row in rows[1:3]] == [["large", "1", "synthetic", "8192"], ["small", "1", "synthetic", "2048"]]
    assert rows[4] == ["auto", "2", "large,", "small"]
    assert {model["name"] for model in json.loads(run("models", "--router", address, "--json").stdout)["models"]} == {
        "small",
        "large",
    }
    shown = run("fleet", "--router", address)
    assert shown.returncode == 0
    assert "\x1b" not in shown.stdout, "no terminal, so once"
    assert [line.split()[:6] for line in shown.stdout.splitlines()[1:]] == [
        ["r1", "gpu", "-", "-", "large", "1/2"],
        ["r1", "gpu", "-", "-", "small", "1/4"],
    ]
    (told,) = json.loads(run("fleet", "--router", address, "--json").stdout)["replicas"]
    assert told["replica_id"] == "r1"
    router.stop()
    gone = run("fleet", "--router", address, "--once")
    assert gone.returncode == 1
    assert gone.stderr == f"chatmesh: {address}: The router service is not available; try again shortly.\n"


def test_on_a_terminal_the_fleet_is_live(start_router: Start, start_replica: Start, wait_until: Wait) -> None:
    replica = start_replica("r1")
    router = start_router(replica)
    with client(router) as calls:
        wait_until(calls.healthy, "serving")
    ours, theirs = pty.openpty()
    seen = bytearray()
    environment = {**os.environ, "COLUMNS": "200", "LINES": "40"}
    watcher = subprocess.Popen(
        command("fleet", "--router", router.listening()), cwd=ROOT, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    os.set_blocking(ours, False)

    def shows(text: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            seen.extend(os.read(ours, 65536))
        return text in seen.decode(errors="replace").rpartition("\x1b[H")[2]

    try:
        wait_until(lambda: shows("0/4"), "the first view")
        replica.report(running=3)
        wait_until(lambda: shows("3/4"), "the view follows")
        router.stop()
        wait_until(lambda: shows("trying again"), "it says that the router has gone")
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(20) == 0
    finally:
        watcher.kill()
        watcher.wait()
        os.close(ours)


def test_a_refused_models_file_is_seen_by_operators(
    models_file: Path, start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    router = start_router(start_replica("r1"))
    metrics = f"http://{router.listening('metrics_address')}/metrics"

    def gauge() -> float:
        with urllib.request.urlopen(metrics) as response:
            lines = response.read().decode().splitlines()
        [line] = [line for line in lines if line.startswith("chatmesh_router_models_file_refused")]
        return float(line.rpartition(" ")[2])

    good = models_file.read_text()
    with client(router) as calls:
        wait_until(calls.healthy, "serving")
        assert (calls.models().refused_file, gauge()) == ("", 0)
        models_file.write_text(good.replace("[large, small]", "[large, missing]"))
        wait_until(lambda: calls.models().refused_file, "the file is refused")
        assert gauge() == 1
        shown = run("models", "--router", router.listening())
        refused = calls.models().refused_file
        assert "stands for missing" in refused
        assert shown.stdout.splitlines()[-1] == f"refused, so what was read before stays in force: {refused}"
        told = run("models", "--router", router.listening(), "--json")
        assert json.loads(told.stdout)["refused_file"] == refused
        models_file.unlink()
        wait_until(lambda: "cannot be read" in calls.models().refused_file, "the file is gone")
        models_file.write_text(good)
        wait_until(lambda: not calls.models().refused_file, "the file is good again")
        assert gauge() == 0
