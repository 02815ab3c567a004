"""The supervisor with real child processes, each of a few lines of Python."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.cli.probes import Health
from services.cli.process import Backoff, ProcessSpec, StopOrder
from services.cli.state import Condition, Kind, ProcessRecord
from services.cli.supervisor import StartError, Supervisor

# Serves for as long as its file stands; says in `journal` when it starts and when it is told to stop.
_CHILD = """
import pathlib, signal, sys, time
name, target, journal = sys.argv[1:4]
def say(what):
    with open(journal, "a") as file: file.write(f"{what} {name}\\n")
def stop(*_):
    say("stop"); pathlib.Path(target).unlink(missing_ok=True); sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in name else stop)
say("start")
pathlib.Path(target).touch()
while True: time.sleep(60)
"""


async def _probe(kind: Kind, target: str) -> Health:
    return Health(serving=Path(target).exists(), reason="no file")


class _Notes:
    """A reporter that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def serving(self, spec: ProcessSpec, *, after_s: float) -> None:
        self.heard.append(f"serving {spec.name}")

    def slow(self, spec: ProcessSpec) -> None:
        self.heard.append(f"slow {spec.name}: {spec.slow_step}")

    def restarting(self, spec: ProcessSpec, *, ended: str, delay_s: float) -> None:
        self.heard.append(f"restarting {spec.name} {ended} {delay_s}")


class _Mesh:
    """A supervisor of small children, with what it told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.notes = _Notes()
        self.journal = folder / "journal"
        self.journal.touch()
        self.records: tuple[ProcessRecord, ...] = ()
        self.supervisor: Supervisor | None = None

    def spec(self, name: str, *, script: str = _CHILD, **changes: Any) -> ProcessSpec:
        target = self._folder / f"{name}.up"
        values: dict[str, Any] = {
            "name": name,
            "kind": Kind.SERVICE,
            "command": (sys.executable, "-S", "-c", script, name, str(target), str(self.journal)),
            "address": f"{name}:1",
            "target": str(target),
            "log": self._folder / f"{name}.log",
            "stop_order": StopOrder.BACK,
            "environment": dict(os.environ),
            **changes,
        }
        return ProcessSpec(**values)

    def build(self, *specs: ProcessSpec) -> Supervisor:
        self.supervisor = Supervisor(
            specs=specs,
            probe=_probe,
            publish=self._publish,
            reporter=self.notes,
            backoff=lambda: Backoff(first_s=0.05, longest_s=0.2, steady_s=60),
        )
        return self.supervisor

    def _publish(self, records: tuple[ProcessRecord, ...]) -> None:
        self.records = records

    def record(self, name: str) -> ProcessRecord:
        return next(record for record in self.records if record.name == name)

    def pid(self, name: str) -> int:
        process = self.record(name).process
        assert process is not None
        return process.pid

    def journal_lines(self) -> list[str]:
        return self.journal.read_text().splitlines()


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[_Mesh]:
    mesh = _Mesh(tmp_path)
    yield mesh
    if mesh.supervisor is not None:
        mesh.supervisor.hurry()
        await mesh.supervisor.stop()


async def _until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that in time"
        await asyncio.sleep(0.01)


async def test_one_that_needs_another_is_started_when_that_serves(mesh: _Mesh) -> None:
    # Written down in the wrong order: the dependency counts, not the list.
    script = (
        "import os, sys\n"
        f"is_up = os.path.exists({mesh.spec('store').target!r})\n"
        "with open(sys.argv[3], 'a') as journal: journal.write(f'store up: {is_up}\\n')\n"
    )
    supervisor = mesh.build(mesh.spec("service", script=script + _CHILD, after=("store",)), mesh.spec("store"))

    await supervisor.start(timeout_s=10)

    assert mesh.journal_lines() == ["start store", "store up: True", "start service"]
    assert {record.condition for record in mesh.records} == {Condition.RUNNING}
    assert mesh.notes.heard == ["serving store", "serving service"]


async def test_they_are_stopped_in_order_and_nothing_is_left(mesh: _Mesh) -> None:
    supervisor = mesh.build(
        mesh.spec("store", stop_order=StopOrder.STORE),
        mesh.spec("edge", stop_order=StopOrder.EDGE),
        mesh.spec("back", stop_order=StopOrder.BACK),
        mesh.spec("front", stop_order=StopOrder.FRONT),
    )
    await supervisor.start(timeout_s=10)
    pids = [mesh.pid(name) for name in ("store", "edge", "back", "front")]

    await supervisor.stop()

    assert [line for line in mesh.journal_lines() if line.startswith("stop")] == [
        "stop front", "stop edge", "stop back", "stop store",
    ]  # fmt: skip
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert {record.condition for record in mesh.records} == {Condition.STOPPED}


async def test_a_killed_one_comes_back_at_the_same_address_and_is_counted(mesh: _Mesh) -> None:
    supervisor = mesh.build(mesh.spec("one"), mesh.spec("other"))
    await supervisor.start(timeout_s=10)
    first, other = mesh.pid("one"), mesh.pid("other")

    Path(mesh.spec("one").target).unlink()
    os.kill(first, signal.SIGKILL)
    await _until(lambda: mesh.record("one").restarts == 1 and mesh.record("one").condition is Condition.RUNNING)

    assert mesh.pid("one") != first
    assert mesh.pid("other") == other
    assert mesh.record("one").last_exit == "SIGKILL"
    assert mesh.record("one").address == "one:1"
    assert "restarting one SIGKILL 0.05" in mesh.notes.heard


async def test_one_that_keeps_dying_is_started_ever_more_slowly(mesh: _Mesh) -> None:
    flag = mesh.journal.with_name("broken")
    script = f"import os, sys\nif os.path.exists({str(flag)!r}): sys.exit(3)\n" + _CHILD
    supervisor = mesh.build(mesh.spec("one", script=script))
    await supervisor.start(timeout_s=10)

    flag.touch()
    os.kill(mesh.pid("one"), signal.SIGKILL)
    await _until(lambda: mesh.record("one").restarts >= 4)
    flag.unlink()
    await _until(lambda: mesh.record("one").condition is Condition.RUNNING)

    restarts = [line for line in mesh.notes.heard if line.startswith("restarting")]
    assert restarts[:4] == [
        "restarting one SIGKILL 0.05", "restarting one exit 3 0.1",
        "restarting one exit 3 0.2", "restarting one exit 3 0.2",
    ]  # fmt: skip


async def test_one_that_ends_at_its_start_is_an_error_with_the_end_of_its_log(mesh: _Mesh) -> None:
    bad = mesh.spec("bad", script="import sys; print('no such file', file=sys.stderr); sys.exit(2)")
    supervisor = mesh.build(mesh.spec("good"), bad)

    with pytest.raises(StartError, match=r"bad ended at its start \(exit 2\)") as raised:
        await supervisor.start(timeout_s=10)

    assert raised.value.log_lines == ("no such file",)
    assert raised.value.spec is bad


async def test_one_that_does_not_get_healthy_is_an_error_that_says_why(mesh: _Mesh) -> None:
    supervisor = mesh.build(mesh.spec("mute", script="import time; time.sleep(60)"))

    with pytest.raises(StartError, match="mute did not get healthy within .* no file"):
        await supervisor.start(timeout_s=0.3)


async def test_one_that_does_not_listen_is_killed_after_its_time(mesh: _Mesh) -> None:
    supervisor = mesh.build(mesh.spec("deaf", stop_timeout_s=0.2))
    await supervisor.start(timeout_s=10)
    pid = mesh.pid("deaf")

    await supervisor.stop()

    assert not psutil.pid_exists(pid)


async def test_a_second_signal_hurries_a_stop(mesh: _Mesh) -> None:
    supervisor = mesh.build(mesh.spec("deaf", stop_timeout_s=600))
    await supervisor.start(timeout_s=10)
    pid = mesh.pid("deaf")

    stopping = asyncio.create_task(supervisor.stop())
    await asyncio.sleep(0)
    supervisor.hurry()
    await asyncio.wait_for(stopping, timeout=5)

    assert not psutil.pid_exists(pid)


async def test_the_children_of_a_child_are_not_left_behind(mesh: _Mesh) -> None:
    script = (
        "import subprocess, sys\n"
        "grandchild = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        "open(sys.argv[3], 'a').write(f'grandchild {grandchild.pid}\\n')\n"
    )
    supervisor = mesh.build(mesh.spec("parent", script=script + _CHILD))
    await supervisor.start(timeout_s=10)
    grandchild = int(mesh.journal_lines()[0].split()[1])
    assert psutil.pid_exists(grandchild)

    await supervisor.stop()

    await _until(lambda: not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == "zombie")


async def test_a_slow_start_says_what_it_is_doing(mesh: _Mesh) -> None:
    script = "import time; time.sleep(1.3)\n" + _CHILD
    supervisor = mesh.build(mesh.spec("engine", script=script, slow_step="loading model m"), mesh.spec("quick"))

    await supervisor.start(timeout_s=10)

    assert mesh.notes.heard == ["serving quick", "slow engine: loading model m", "serving engine"]


@pytest.mark.skipif(sys.platform != "linux", reason="the bond to the parent is Linux's")
def test_children_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time\n"
        "from services.cli.privileges import launcher\n"
        "says_its_pid = 'import os, time; print(os.getpid(), flush=True); time.sleep(600)'\n"
        "subprocess.Popen([*launcher(15), sys.executable, '-S', '-c', says_its_pid], start_new_session=True)\n"
        "time.sleep(600)\n"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert supervisor.stdout is not None
        child = psutil.Process(int(supervisor.stdout.readline()))
        assert child.is_running()
    finally:
        supervisor.kill()
        supervisor.communicate()

    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
