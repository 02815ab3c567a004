"""Keeps a set of processes running: starts them in order, restarts what dies, stops them in order."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from services.cli.privileges import launcher
from services.cli.process import Backoff, ProcessSpec, describe_exit, last_lines, rotate_log
from services.cli.state import Condition, Kind, ProcessId, ProcessRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from services.cli.probes import Health

POLL_S = 0.05
_SLOW_AFTER_S = 1.0
_HURRIED_GRACE_S = 3.0
_ROTATE_EVERY_S = 5.0


class StartError(Exception):
    """A process ended, or did not serve in time, while the mesh was being started."""

    def __init__(self, spec: ProcessSpec, what: str, *, log_lines: Iterable[str] = ()) -> None:
        super().__init__(f"{spec.name} {what}")
        self.spec = spec
        self.log_lines = tuple(log_lines)


class Reporter(Protocol):
    """Hears what happens, as it happens."""

    def serving(self, spec: ProcessSpec, *, after_s: float) -> None:
        """A process answers that it serves; so many seconds after it was started."""

    def slow(self, spec: ProcessSpec) -> None:
        """A process is at its slow step."""

    def restarting(self, spec: ProcessSpec, *, ended: str, delay_s: float) -> None:
        """A process died and will be started again."""


@dataclass(slots=True)
class _Process:
    """One process over all of its restarts."""

    spec: ProcessSpec
    record: ProcessRecord
    backoff: Backoff
    child: asyncio.subprocess.Process | None = None
    log_start: int = 0
    reason: str = "not started"
    serving_since: float | None = None
    serving: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Runs the processes of `specs`. `probe` asks one for its health; `publish` hears of every change."""

    def __init__(
        self,
        *,
        specs: Iterable[ProcessSpec],
        probe: Callable[[Kind, str], Awaitable[Health]],
        publish: Callable[[tuple[ProcessRecord, ...]], None],
        reporter: Reporter,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self._probe = probe
        self._publish = publish
        self._reporter = reporter
        self._processes = {
            spec.name: _Process(
                spec=spec,
                record=ProcessRecord(
                    name=spec.name,
                    kind=spec.kind,
                    address=spec.address,
                    target=spec.target,
                    stop_signal=int(spec.stop_signal),
                    metrics_address=spec.metrics_address,
                ),
                backoff=backoff(),
            )
            for spec in specs
        }
        self._keepers: list[asyncio.Task[None]] = []
        self._started = False
        self._hurry = asyncio.Event()

    def records(self) -> tuple[ProcessRecord, ...]:
        """All processes as they are now."""
        return tuple(process.record for process in self._processes.values())

    async def start(self, *, timeout_s: float) -> None:
        """Start everything; returns when all serve.

        Raises:
            StartError: one ended or did not serve in time. The others still run: call `stop`.
        """
        self._keepers = [asyncio.create_task(self._keep(process)) for process in self._processes.values()]
        everything = asyncio.create_task(self._all_serving())
        try:
            await asyncio.wait({everything, *self._keepers}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            everything.cancel()
        for keeper in self._keepers:
            if keeper.done():
                keeper.result()
        for process in self._processes.values():
            if not process.serving.is_set() and process.child is not None:
                raise StartError(
                    process.spec,
                    f"did not get healthy within {timeout_s:.0f} s: {process.reason}",
                    log_lines=last_lines(process.spec.log, since=process.log_start),
                )
        self._started = True
        self._keepers.append(asyncio.create_task(self._rotate_logs()))

    async def run_until(self, stop: asyncio.Event) -> None:
        """Keep everything running until told to stop. Raises only by a fault of the supervisor itself."""
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({stopped, *self._keepers}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        for keeper in self._keepers:
            if keeper.done():
                keeper.result()

    def hurry(self) -> None:
        """Make a stop that is under way, or yet to come, end within seconds."""
        self._hurry.set()

    async def stop(self) -> None:
        """Stop everything, step by step. When it returns, nothing runs."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        by_order = sorted(self._processes.values(), key=lambda process: process.spec.stop_order)
        for _, step in groupby(by_order, key=lambda process: process.spec.stop_order):
            await asyncio.gather(*(self._stop_one(process) for process in step))

    async def _keep(self, process: _Process) -> None:
        for name in process.spec.after:
            await self._processes[name].serving.wait()
        while True:
            child = await self._spawn(process)
            watch = asyncio.create_task(self._await_serving(process))
            try:
                code = await child.wait()
            finally:
                watch.cancel()
            ended = describe_exit(code)
            process.child = None
            if not self._started:
                raise StartError(
                    process.spec,
                    f"ended at its start ({ended})",
                    log_lines=last_lines(process.spec.log, since=process.log_start),
                )
            since = process.serving_since
            delay_s = process.backoff.next_delay_s(healthy_for_s=0.0 if since is None else time.monotonic() - since)
            restarts = process.record.restarts + 1
            self._note(
                process,
                replace(
                    process.record, condition=Condition.RESTARTING, process=None, restarts=restarts, last_exit=ended
                ),
            )
            self._reporter.restarting(process.spec, ended=ended, delay_s=delay_s)
            await asyncio.sleep(delay_s)

    async def _all_serving(self) -> None:
        for process in self._processes.values():
            await process.serving.wait()

    async def _spawn(self, process: _Process) -> asyncio.subprocess.Process:
        spec = process.spec
        rotate_log(spec.log)
        process.serving_since = None
        process.reason = "not listening"
        log = os.open(spec.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            process.log_start = os.fstat(log).st_size
            # A session of its own: Ctrl-C in the terminal must reach the supervisor alone, which then stops in order.
            child = await asyncio.create_subprocess_exec(
                *launcher(spec.stop_signal, privileges=spec.privileges, cores=spec.cores), *spec.command,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                env=dict(spec.environment), cwd=spec.folder, start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(log)
        process.child = child
        self._note(
            process,
            replace(
                process.record,
                condition=Condition.STARTING,
                process=ProcessId.of(child.pid),
                started_at=time.time(),
            ),
        )
        return child

    async def _await_serving(self, process: _Process) -> None:
        begun = time.monotonic()
        said = False
        while True:
            health = await self._probe(process.spec.kind, process.spec.target)
            took_s = time.monotonic() - begun
            if health.serving:
                break
            process.reason = health.reason
            if process.spec.slow_step and not said and took_s > _SLOW_AFTER_S:
                self._reporter.slow(process.spec)
                said = True
            await asyncio.sleep(POLL_S)
        process.serving_since = time.monotonic()
        self._note(process, replace(process.record, condition=Condition.RUNNING))
        self._reporter.serving(process.spec, after_s=took_s)
        process.serving.set()

    async def _stop_one(self, process: _Process) -> None:
        child = process.child
        if child is not None and child.returncode is None:
            child.send_signal(process.spec.hurry_signal if self._hurry.is_set() else process.spec.stop_signal)
            if not await self._ends(child, within_s=process.spec.stop_timeout_s, or_hurried=True):
                child.send_signal(process.spec.hurry_signal)
                await self._ends(child, within_s=_HURRIED_GRACE_S, or_hurried=False)
            _kill_group(child.pid)
            await child.wait()
        process.child = None
        self._note(process, replace(process.record, condition=Condition.STOPPED, process=None))

    async def _ends(self, child: asyncio.subprocess.Process, *, within_s: float, or_hurried: bool) -> bool:
        """Wait for the end; False when it did not come in time (or everybody is told to hurry)."""
        waits = [asyncio.create_task(child.wait())]
        if or_hurried and not self._hurry.is_set():
            waits.append(asyncio.create_task(self._until_hurried()))
        elif or_hurried:
            within_s = min(within_s, _HURRIED_GRACE_S)
        _, pending = await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        return child.returncode is not None

    async def _until_hurried(self) -> int:
        await self._hurry.wait()
        return 0

    async def _rotate_logs(self) -> None:
        while True:
            await asyncio.sleep(_ROTATE_EVERY_S)
            for process in self._processes.values():
                rotate_log(process.spec.log)

    def _note(self, process: _Process, record: ProcessRecord) -> None:
        process.record = record
        self._publish(self.records())


def _kill_group(leader: int) -> None:
    """Kill what a process started in its session and left behind."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
