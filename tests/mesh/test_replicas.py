"""Several replicas of a service in one mesh: all of them work, and the death of one is hardly noticed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.mesh_process import ROOT, MeshProcess, eventually, running_mesh

REPLICAS = {"conversation": ("conversation", "conversation-2"), "inference": ("inference", "inference-2")}
ROW = 20
"""Turns that must succeed one after the other."""

# What counts the turns that a process had a part in.
_TURNS = {
    "conversation": re.compile(
        r'^rpc_server_call_duration_seconds_count\{.*rpc_method="[^"]*/SendMessage".*\} ([0-9.]+)$', re.MULTILINE
    ),
    # A call of Generate carries many generations.
    "inference": re.compile(r"^gen_ai_server_request_duration_seconds_count\{.*\} ([0-9.]+)$", re.MULTILINE),
}


@pytest.fixture(scope="module")
def replicated_mesh() -> Iterator[MeshProcess]:
    with running_mesh(extra={"CHATMESH_REPLICAS": "conversation=2,inference=2"}) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def http(replicated_mesh: MeshProcess) -> Iterator[httpx.Client]:
    token = replicated_mesh.token(user=f"user-{uuid.uuid4()}")
    # No request may wait for a process that is gone: it fails, and the test asks again.
    with httpx.Client(
        base_url=replicated_mesh.url, headers={"authorization": f"Bearer {token}"}, timeout=5, trust_env=False
    ) as client:
        yield client


def turn(http: httpx.Client) -> int:
    """One message in a conversation of its own. Returns the status of the answer, 0 when none came in time."""
    try:
        made = http.post("/v1/conversations", json={"model": "synthetic-fast"})
        if made.status_code != 200:
            return made.status_code
        path = f"/v1/conversations/{made.json()['id']}/messages"
        return http.post(path, json={"content": "Hello", "sampling": {"max_tokens": 8}}).status_code
    except httpx.TransportError:
        return 0


def turns_of(mesh: MeshProcess, process: str) -> float:
    """How many turns a process has had a part in since its start."""
    service = process.partition("-")[0]
    return sum(float(count) for count in _TURNS[service].findall(mesh.metrics(process)))


def all_serve(mesh: MeshProcess) -> bool:
    return {process["health"] for process in mesh.status().values()} == {"SERVING"}


@contextmanager
def paused(mesh: MeshProcess, process: str) -> Iterator[None]:
    """A process that is there, and does nothing."""
    pid = mesh.status()[process]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        eventually(lambda: all_serve(mesh), bool)


def test_every_replica_is_shown_and_has_an_address_of_its_own(replicated_mesh: MeshProcess) -> None:
    status = replicated_mesh.status()

    names = {name for names in REPLICAS.values() for name in names}
    assert set(status) == names | {"postgres", "redis", "usage", "moderation", "context", "router", "envoy"}
    assert {process["health"] for process in status.values()} == {"SERVING"}
    assert len({process["address"] for process in status.values()}) == len(status)
    rows = [line.split() for line in replicated_mesh.chatmesh("models").stdout.splitlines()]
    assert next(row[1] for row in rows if row[0] == "synthetic-fast") == "2"


@pytest.mark.parametrize("service", REPLICAS)
def test_turns_go_to_every_replica(replicated_mesh: MeshProcess, http: httpx.Client, service: str) -> None:
    before = {name: turns_of(replicated_mesh, name) for name in REPLICAS[service]}

    assert [turn(http) for _ in range(ROW)] == [200] * ROW

    def new_turns() -> list[float]:
        assert turn(http) == 200
        return [turns_of(replicated_mesh, name) - before[name] for name in REPLICAS[service]]

    # The Router keeps away from a replica that was slow a moment ago, but only for a while.
    seen = eventually(new_turns, lambda counts: min(counts) > 0, within_s=60)
    assert sum(seen) > ROW


@pytest.mark.parametrize("name", ["conversation", "conversation-2", "inference", "inference-2"])
def test_a_killed_replica_is_started_again_while_the_other_works(
    replicated_mesh: MeshProcess, http: httpx.Client, name: str
) -> None:
    before = replicated_mesh.status()[name]
    replicated_mesh.kill(name)

    eventually(lambda: turn(http), lambda status: status == 200, within_s=10)
    assert [turn(http) for _ in range(ROW)] == [200] * ROW

    after = eventually(
        replicated_mesh.status,
        lambda now: now[name]["restarts"] == before["restarts"] + 1 and now[name]["health"] == "SERVING",
    )[name]
    assert after["last_exit"] == "SIGKILL"
    assert after["address"] == before["address"]
    # It takes its part again.
    eventually(lambda: (turn(http), turns_of(replicated_mesh, name)), lambda seen: seen[1] > 0)


@pytest.mark.parametrize("name", ["conversation", "conversation-2"])
def test_a_replica_that_hangs_is_left_alone(replicated_mesh: MeshProcess, http: httpx.Client, name: str) -> None:
    with paused(replicated_mesh, name):
        other = next(other for other in REPLICAS["conversation"] if other != name)

        def row_of_turns() -> list[int]:
            return [turn(http) for _ in range(ROW)]

        eventually(lambda: turn(http), lambda status: status == 200, within_s=15)
        eventually(row_of_turns, lambda statuses: statuses == [200] * ROW)
        assert replicated_mesh.status()[other]["health"] == "SERVING"
        assert replicated_mesh.status()[name]["health"] == "NOT_SERVING"


def answers_on_their_way(mesh: MeshProcess, *, user: str) -> int:
    """How many answers of a user are being generated, wherever that is."""
    headers = {"authorization": f"Bearer {mesh.token(user=user)}"}
    found = httpx.get(f"{mesh.url}/v1/generations?state=GENERATION_STATE_OPEN", headers=headers, timeout=5)
    return len(found.json()["generations"])


def wait_for_text(mesh: MeshProcess, *, user: str) -> None:
    """Wait until something of a user's answer is shown."""
    headers = {"authorization": f"Bearer {mesh.token(user=user)}"}
    with httpx.Client(base_url=mesh.url, headers=headers, timeout=30) as client:
        (generation,) = client.get("/v1/generations?state=GENERATION_STATE_OPEN").json()["generations"]
        with client.stream("GET", f"/v1/generations/{generation['id']}:watch") as events:
            assert any('"delta"' in line for line in events.iter_lines())


@pytest.mark.parametrize("killed", [("conversation",), ("conversation-2",), REPLICAS["conversation"], ("envoy",)])
def test_a_chat_shows_the_whole_answer_whoever_dies(replicated_mesh: MeshProcess, killed: tuple[str, ...]) -> None:
    user = f"user-{uuid.uuid4()}"
    with ThreadPoolExecutor(1) as pool:
        line = "Tell a long story.\n/history\n"
        chat = pool.submit(
            replicated_mesh.chatmesh, "chat", "--user", user, "--model", "synthetic", stdin=line, check=False
        )
        eventually(lambda: answers_on_their_way(replicated_mesh, user=user), lambda count: count == 1)
        for name in killed:
            replicated_mesh.kill(name)
        done = chat.result()

    assert done.returncode == 0, done.stdout + done.stderr
    shown, _, history = done.stdout.partition("you: Tell a long story.\n")
    assert shown.strip()
    # What was shown is what is stored.
    assert history.strip() == f"synthetic: {shown.strip()}"
    eventually(lambda: all_serve(replicated_mesh), bool)


def test_ctrl_c_in_a_chat_stops_the_answer_wherever_it_is_generated(replicated_mesh: MeshProcess) -> None:
    user = f"user-{uuid.uuid4()}"
    chat = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "chat", "--user", user, "--model", "synthetic"],
        env=dict(replicated_mesh.environment), cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert chat.stdin is not None
    chat.stdin.write("Tell a long story.\n")
    chat.stdin.flush()
    eventually(lambda: answers_on_their_way(replicated_mesh, user=user), lambda count: count == 1)
    # Until something is shown there is nothing to keep.
    wait_for_text(replicated_mesh, user=user)
    chat.send_signal(signal.SIGINT)
    eventually(lambda: answers_on_their_way(replicated_mesh, user=user), lambda count: count == 0)
    printed, errors = chat.communicate("/history\n", timeout=30)

    assert chat.returncode == 0, printed + errors
    shown, _, history = printed.partition("you: Tell a long story.\n")
    answer, _, remark = shown.strip().rpartition("\n")
    assert remark == "(stopped)"
    assert history.strip() == f"synthetic: {answer} (stopped)"
