"""What a start looks like to the person who waits for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from services.cli.process import ProcessSpec
    from services.cli.supervisor import StartError


class Progress:
    """Prints a line for each thing that happens. The word `ready` is kept for the one line that means it."""

    def __init__(self, *, out: TextIO, quiet: bool = False) -> None:
        self._out = out
        self._quiet = quiet

    def say(self, text: str) -> None:
        """One line, at once."""
        print(text, file=self._out, flush=True)

    def step(self, text: str) -> None:
        """One line about a step of the start, left out when quiet."""
        if not self._quiet:
            self.say(f"  {text}")

    def serving(self, spec: ProcessSpec, *, after_s: float) -> None:
        """A process serves."""
        self.step(f"{spec.name:<14}{after_s:5.1f} s   {spec.address}")

    def slow(self, spec: ProcessSpec) -> None:
        """A process takes its time."""
        self.step(f"{spec.slow_step} ...")

    def restarting(self, spec: ProcessSpec, *, ended: str, delay_s: float) -> None:
        """A process died."""
        self.say(f"chatmesh: {spec.name} ended ({ended}); starting it again in {delay_s:.1f} s. Its log: {spec.log}")


def explain_start_error(error: StartError) -> str:
    """The error, the log to read, and the end of that log."""
    lines = [f"{error}. Its log: {error.spec.log}"]
    lines += [f"  | {readable(line)}" for line in error.log_lines]
    return "\n".join(lines)


def readable(line: str) -> str:
    """A line of a log for people: of a JSON line, the message and the end of its traceback."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict) or "message" not in entry:
        return line
    exception = str(entry.get("exception", "")).strip().splitlines()
    return f"{entry.get('level', 'log')}: {entry['message']}" + (f" ({exception[-1]})" if exception else "")
