"""One service as a process of its own, as the mesh starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds; fail naming `what` when it does not in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in {DEADLINE_S:g} s: {what}"
        time.sleep(0.02)


class ServiceProcess:
    """`python -m services.<name>` and what it logs."""

    def __init__(self, name: str, environment: Mapping[str, str], *arguments: str) -> None:
        self.name = name
        self.text: list[str] = []
        self.lines: list[dict[str, object]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"services.{name}", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.text.append(line)
            if line.startswith("{"):
                self.lines.append(json.loads(line))

    def logged(self, message: str) -> list[dict[str, object]]:
        """The lines of the log with this message, so far."""
        return [line for line in list(self.lines) if line.get("message") == message]

    def address(self, key: str = "address", *, serving: bool = True) -> str:
        """Where it listens; waits for it, and with `serving` for its dependencies to answer."""
        message = "serving" if serving else "listening"
        eventually(lambda: self.logged(message) or self.process.poll() is not None, f"{self.name}: {message}")
        assert self.process.poll() is None, "".join(self.text)
        return str(self.logged("listening")[0][key])

    def wait(self) -> int:
        """Its exit code."""
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    def stop(self) -> int:
        """Stop it as the mesh does; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.wait()
        finally:
            if self.process.poll() is None:
                self.process.kill()


@contextmanager
def running(name: str, environment: Mapping[str, str]) -> Iterator[ServiceProcess]:
    """Run a service for as long as the block lasts."""
    service = ServiceProcess(name, environment)
    try:
        yield service
    finally:
        service.stop()
        assert service.process.stdout is not None
        service.process.stdout.close()
