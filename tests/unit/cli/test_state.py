from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli.down import down
from services.cli.home import Home
from services.cli.leftovers import end_leftovers
from services.cli.state import (
    Condition,
    Kind,
    MeshRecord,
    Phase,
    ProcessId,
    ProcessRecord,
    read_state,
    write_state,
)
from services.cli.status import mesh_status, render_status

_GONE = ProcessId(pid=2**22 + 1, created=1.0)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.prepare()
    return home


def _mesh(*processes: ProcessRecord, supervisor: ProcessId = _GONE) -> MeshRecord:
    return MeshRecord(
        supervisor=supervisor,
        phase=Phase.READY,
        address="http://127.0.0.1:1",
        started_at=time.time(),
        processes=processes,
    )


def _record(name: str, process: ProcessId | None, **changes: Any) -> ProcessRecord:
    values: dict[str, Any] = {
        "name": name,
        "kind": Kind.SERVICE,
        "address": "127.0.0.1:1",
        "target": "127.0.0.1:1",
        "stop_signal": int(signal.SIGTERM),
        "condition": Condition.RUNNING,
        "process": process,
        "started_at": time.time(),
        **changes,
    }
    return ProcessRecord(**values)


def _id(process: subprocess.Popen[bytes]) -> ProcessId:
    found = ProcessId.of(process.pid)
    assert found is not None
    return found


def test_what_is_written_is_read(home: Home) -> None:
    record = _mesh(_record("router", _GONE, restarts=2, last_exit="SIGKILL"), _record("waiting", None))
    write_state(home.state_file, record)

    assert read_state(home.state_file) == record


@pytest.mark.parametrize("text", ["", "{", "[]", '{"phase": "ready"}', '{"supervisor": {"x": 1}}'])
def test_a_state_that_cannot_be_read_is_none(text: str, home: Home) -> None:
    home.state_file.write_text(text)

    assert read_state(home.state_file) is None


def test_a_process_with_the_same_number_is_another_one() -> None:
    me = ProcessId.of(os.getpid())
    assert me is not None
    assert me.is_alive()
    assert not ProcessId(pid=me.pid, created=me.created - 60).is_alive()


def test_leftovers_are_ended_and_strangers_are_not(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"]) as stranger:
        reused = ProcessId(pid=stranger.pid, created=_id(stranger).created - 60)
        write_state(home.state_file, _mesh(_record("router", _id(sleeper)), _record("usage", reused)))

        assert end_leftovers(home) == ["router"]

        assert sleeper.wait(5) == -signal.SIGTERM
        assert stranger.poll() is None
        assert not home.state_file.exists()
        stranger.kill()


def test_leftovers_that_do_not_listen_are_killed(home: Home) -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-S", "-c", script], stdout=subprocess.PIPE) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        write_state(home.state_file, _mesh(_record("router", _id(deaf))))

        end_leftovers(home, patience_s=0.2)

        assert deaf.wait(5) == -signal.SIGKILL


def test_down_ends_what_a_killed_supervisor_left(
    home: Home, sleeper: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    write_state(home.state_file, _mesh(_record("router", _id(sleeper))))

    assert down(home) == 0
    assert "left over: router" in capsys.readouterr().out
    assert sleeper.wait(5) == -signal.SIGTERM
    assert down(home) == 0
    assert "not running" in capsys.readouterr().out


async def test_status_says_what_is_wrong(home: Home, sleeper: subprocess.Popen[bytes]) -> None:
    me = ProcessId.of(os.getpid())
    assert me is not None
    write_state(
        home.state_file,
        _mesh(
            _record("alive-but-silent", _id(sleeper)),
            _record("killed", None, condition=Condition.RESTARTING, restarts=3, last_exit="SIGKILL"),
            _record("loading", _id(sleeper), condition=Condition.STARTING),
            supervisor=me,
        ),
    )

    status = await mesh_status(home)

    assert not status.healthy
    assert status.phase == "ready"
    assert [(entry.name, entry.health, entry.reason) for entry in status.processes] == [
        ("alive-but-silent", "NOT_SERVING", "not listening"),
        ("killed", "restarting", "ended by SIGKILL"),
        ("loading", "starting", "not listening"),
    ]
    assert status.processes[1].restarts == 3
    assert "SIGKILL" in render_status(status)


async def test_status_of_a_killed_supervisor_is_down(home: Home) -> None:
    write_state(home.state_file, _mesh(_record("router", _GONE)))

    status = await mesh_status(home)

    assert (status.phase, status.healthy, status.processes[0].health) == ("down", False, "down")


async def test_status_of_an_empty_home_is_down(home: Home) -> None:
    status = await mesh_status(home)

    assert not status.healthy
    assert "chatmesh up" in render_status(status)
