"""The `chatmesh` command and the mesh that it runs, as a person at a shell sees them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.mesh_process import ROOT, SYNTHETIC_MODELS, MeshProcess, eventually, free_port, running_mesh

PROCESSES = {
    "postgres", "redis", "usage", "moderation", "context", "router", "inference", "conversation", "envoy",
}  # fmt: skip
START_TIMEOUT_S = 110
# Where what the answer says does not matter: the real model takes seconds, and now and then many.
QUICK = ("--model", "synthetic-fast")


def _environment(home: Path, **changes: str) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CHATMESH_")}
    return {**inherited, "CHATMESH_HOME": str(home), "CHATMESH_PORT": str(free_port()), **changes}


def _say(mesh: MeshProcess, text: str, *arguments: str) -> str:
    """Send one line by `chatmesh chat`, which must succeed; returns what it printed."""
    chat = mesh.chatmesh("chat", *arguments, stdin=text + "\n", check=False)
    assert chat.returncode == 0, chat.stdout + chat.stderr
    return chat.stdout


def _up(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`chatmesh up` that is expected to fail."""
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "up", *arguments],
        env=dict(environment), cwd=ROOT, capture_output=True, text=True, timeout=START_TIMEOUT_S,
    )  # fmt: skip


@contextmanager
def _foreground(environment: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """`chatmesh up` in the foreground; yields it and what it printed up to the line that says it is ready."""
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "up"],
        env=dict(environment), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert supervisor.stdout is not None
        printed: list[str] = []
        for line in supervisor.stdout:
            printed.append(line)
            if "ready" in line:
                break
        yield supervisor, printed
    finally:
        supervisor.terminate()
        try:
            supervisor.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.communicate()


def _running_under(home: Path) -> list[str]:
    """Command lines of everything that still names this home or was given it."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            if str(home) in words or process.environ().get("CHATMESH_HOME", "") == str(home):
                found.append(f"{process.pid} {words}")
        except psutil.Error:
            continue
    return found


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Below pytest's own folder: deep, and closed to every other user, which is how many a real home is.
    return tmp_path_factory.mktemp("home-of-a-mesh-" + "x" * 40)


def test_every_process_is_healthy_and_reported(mesh: MeshProcess) -> None:
    status = json.loads(mesh.chatmesh("status", "--json").stdout)

    assert status["healthy"] is True
    assert status["phase"] == "ready"
    assert status["address"] == mesh.url
    assert {process["name"] for process in status["processes"]} == PROCESSES
    assert {process["health"] for process in status["processes"]} == {"SERVING"}
    assert len({process["pid"] for process in status["processes"]}) == len(PROCESSES)
    assert all(process["address"] for process in status["processes"])


def test_status_for_people_has_a_line_for_each(mesh: MeshProcess) -> None:
    lines = mesh.chatmesh("status").stdout.splitlines()

    assert "ready" in lines[0]
    assert {line.split()[0] for line in lines[2:]} == PROCESSES


def test_a_second_one_in_the_same_home_says_where_the_first_is(mesh: MeshProcess) -> None:
    for arguments in ((), ("--detach",)):
        second = _up(mesh.environment, *arguments)

        assert second.returncode == 1
        assert re.search(rf"already running at {mesh.url} \(pid \d+", second.stderr)
    assert mesh.chatmesh("status").returncode == 0


def test_models_are_listed_with_their_replicas(mesh: MeshProcess) -> None:
    rows = [line.split() for line in mesh.chatmesh("models").stdout.splitlines()[1:]]

    replicas = {row[0]: row[1] for row in rows}
    assert replicas["smollm2-135m"] == "1"
    assert replicas["auto"] != "0"


def test_a_chat_by_pipe_remembers_and_takes_commands(mesh: MeshProcess) -> None:
    lines = ["Say one word.", "/title A short chat", "/history", "/list", "/model", "/quit", "never sent"]

    printed = _say(mesh, "\n".join(lines), "--user", "chat-by-pipe", *QUICK)

    assert "you: Say one word." in printed
    assert "A short chat" in printed
    assert "never sent" not in printed
    assert "\x1b" not in printed
    (conversation_id,) = re.findall(r"^\* (\S+)", printed, re.MULTILINE)
    again = _say(mesh, "/history", "--user", "chat-by-pipe", "--conversation", conversation_id)
    assert "you: Say one word." in again


def test_a_chat_by_address_and_token(mesh: MeshProcess) -> None:
    environment = {**mesh.environment, "CHATMESH_URL": mesh.url, "CHATMESH_TOKEN": mesh.token(user="remote")}
    elsewhere = MeshProcess(home=mesh.home, port=mesh.port, environment={**environment, "CHATMESH_HOME": "/nowhere"})

    assert "smollm2-135m" in elsewhere.chatmesh("models").stdout
    assert _say(elsewhere, "Say one word.", *QUICK).strip()


def test_what_fails_in_a_chat_is_said_and_is_an_error(mesh: MeshProcess) -> None:
    unknown = mesh.chatmesh("chat", "--model", "no-such-model", stdin="Hello\n", check=False)
    assert unknown.returncode == 1
    assert "no-such-model" in unknown.stdout

    missing = mesh.chatmesh("chat", "--conversation", "no-such", stdin="Hello\n", check=False)
    assert missing.returncode == 1
    assert "cannot open the conversation" in missing.stderr

    forged = {**mesh.environment, "CHATMESH_URL": mesh.url, "CHATMESH_TOKEN": "forged"}
    refused = MeshProcess(home=mesh.home, port=mesh.port, environment=forged).chatmesh(
        "chat", stdin="Hello\n", check=False
    )
    assert refused.returncode == 1
    assert "token" in refused.stdout


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_a_killed_process_is_reported_and_comes_back(name: str, shaken_mesh: MeshProcess) -> None:
    before = shaken_mesh.status()[name]
    shaken_mesh.kill(name)

    after = eventually(
        shaken_mesh.status,
        lambda now: (
            now[name]["restarts"] == before["restarts"] + 1 and {p["health"] for p in now.values()} == {"SERVING"}
        ),
    )[name]

    assert after["pid"] != before["pid"]
    assert after["address"] == before["address"]
    assert after["last_exit"] == "SIGKILL"
    # The next turn works.
    assert _say(shaken_mesh, "Say one word.", *QUICK).strip()


@pytest.fixture(scope="module")
def shaken_mesh() -> Iterator[MeshProcess]:
    """A mesh whose processes these tests kill."""
    with running_mesh() as mesh:
        yield mesh


def test_a_dependency_that_is_gone_is_named(shaken_mesh: MeshProcess) -> None:
    os.kill(shaken_mesh.status()["redis"]["pid"], signal.SIGSTOP)
    pid = shaken_mesh.status()["redis"]["pid"]
    try:
        usage = eventually(lambda: shaken_mesh.status()["usage"], lambda entry: entry["health"] == "NOT_SERVING")
        assert "redis" in usage["reason"].lower()
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: shaken_mesh.chatmesh("status", check=False).returncode, lambda code: code == 0)


def test_ctrl_c_stops_everything_and_a_second_start_finds_the_data(home: Path) -> None:
    environment = _environment(home, CHATMESH_MODELS_FILE=str(SYNTHETIC_MODELS))
    mesh = MeshProcess(home=home, port=int(environment["CHATMESH_PORT"]), environment=environment)

    with _foreground(environment) as (supervisor, printed):
        assert f"ready at {mesh.url}" in printed[-1]
        assert not [line for line in printed[:-1] if "ready" in line]
        # Ready means ready: the very first chat succeeds.
        _say(mesh, "Remember me.", *QUICK)
        supervisor.send_signal(signal.SIGINT)
        assert supervisor.wait(30) == 0
    assert _running_under(home) == []
    assert mesh.chatmesh("status", check=False).returncode == 1

    with _foreground(environment) as (supervisor, _):
        assert "2 messages" in _say(mesh, "/list")
        assert mesh.chatmesh("down").returncode == 0
        assert supervisor.wait(5) == 0
    assert _running_under(home) == []


def test_a_killed_supervisor_takes_everything_along_and_the_next_start_works(home: Path) -> None:
    environment = _environment(home)
    with _foreground(environment) as (supervisor, _):
        supervisor.kill()
        supervisor.wait()
        eventually(lambda: _running_under(home), lambda left: not left, within_s=20)

    with _foreground(environment) as (_, printed):
        assert "ready" in printed[-1]


def test_a_stop_during_the_start_leaves_nothing(home: Path) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "up"],
        env=_environment(home), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        eventually(lambda: _running_under(home), lambda running: any("services.router" in line for line in running))
        supervisor.send_signal(signal.SIGINT)
        printed, _ = supervisor.communicate(timeout=30)
    finally:
        supervisor.terminate()
        supervisor.wait(30)

    assert supervisor.returncode == 130
    assert "ready" not in printed
    assert _running_under(home) == []


def test_a_taken_port_is_an_error_before_anything_is_started(home: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        begun = time.monotonic()

        for arguments in ((), ("--detach",)):
            failed = _up(_environment(home, CHATMESH_PORT=str(port)), *arguments)

            assert failed.returncode == 1
            assert re.search(rf"port {port} is taken.*CHATMESH_PORT", failed.stdout + failed.stderr)
    assert time.monotonic() - begun < 10
    assert _running_under(home) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("models: [", "not YAML"),
        ("models: []", "models"),
        (
            "models: [{name: m, engine: llama_cpp, path: 'package://no_such_wheel/m.gguf', context_length: 1024,"
            " max_output_tokens: 64}]",
            "no-such-wheel is not installed",
        ),
        (
            "models: [{name: m, engine: llama_cpp, path: gone.gguf, context_length: 1024, max_output_tokens: 64}]",
            "model m: there is no file .*gone.gguf",
        ),
        (
            "models: [{name: m, engine: synthetic, context_length: 1024, max_output_tokens: 64}]",
            r"nothing is called 'auto'.*; add `aliases: \{auto: \[m\]\}`",
        ),
    ],
)
def test_a_models_file_that_cannot_be_used_is_an_error(content: str, message: str, home: Path) -> None:
    file = home / "models.yaml"
    file.write_text(content)

    failed = _up(_environment(home), "--models", str(file))

    assert failed.returncode == 1
    assert re.search(message, failed.stderr)
    assert "Traceback" not in failed.stderr
    assert _running_under(home) == []


def test_a_child_that_ends_at_its_start_is_an_error_with_the_end_of_its_log(home: Path) -> None:
    failed = _up(_environment(home, CHATMESH_LOG_LEVEL="loud"))

    assert failed.returncode == 1
    assert re.search(r"chatmesh: \w+ ended at its start \(exit 2\)", failed.stderr)
    assert "CHATMESH_LOG_LEVEL" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "ready" not in failed.stdout
    assert _running_under(home) == []


def test_a_home_that_cannot_be_made_is_an_error(home: Path) -> None:
    (home / "file").touch()

    failed = _up(_environment(home / "file" / "below"))

    assert failed.returncode == 1
    assert "CHATMESH_HOME" in failed.stderr


def test_down_and_status_of_a_home_where_nothing_runs(home: Path) -> None:
    mesh = MeshProcess(home=home, port=1, environment=_environment(home))

    assert mesh.chatmesh("down").returncode == 0
    assert mesh.chatmesh("status", check=False).returncode == 1
    no_chat = mesh.chatmesh("chat", stdin="Hello\n", check=False)
    assert no_chat.returncode == 1
    assert "chatmesh up" in no_chat.stderr


def test_a_port_that_another_takes_meanwhile_is_replaced(home: Path) -> None:
    with socket.socket() as listener:
        # Somebody is faster: the port was free when it was chosen.
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        script = (
            "import random, sys\n"
            "from services.cli import __main__, up\n"
            "choose, calls = up.free_ports, []\n"
            "def first_one_taken(count, *, draw):\n"
            "    calls.append(count)\n"
            f"    return [{listener.getsockname()[1]}, *choose(count - 1, draw=draw)] if len(calls) == 1"
            " else choose(count, draw=draw)\n"
            "up.free_ports = first_one_taken\n"
            "sys.argv = ['chatmesh', 'up']\n"
            "sys.exit(__main__.main())\n"
        )
        supervisor = subprocess.Popen(
            [sys.executable, "-c", script],
            env=_environment(home), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            assert supervisor.stdout is not None
            printed = ""
            for line in supervisor.stdout:
                printed += line
                if "ready" in line:
                    break
            assert "usage lost its port" in printed
            assert "chatmesh is ready at" in printed
        finally:
            supervisor.terminate()
            supervisor.communicate(timeout=30)
