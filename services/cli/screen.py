"""Shows an answer while it grows. On a terminal it is drawn at once and redrawn when some of it must go; elsewhere it
is written when it is complete, because what is written to a file or a pipe cannot be taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from services.cli.answer import Answer, printable, rows_on_screen

_CLEAR_BELOW = "\x1b[J"


class Screen:
    """Draws one answer at a time. `size` gives columns and rows of the terminal as it is now. `err` gets remarks that
    must not get into what a pipe reads."""

    def __init__(self, *, out: TextIO, err: TextIO, is_terminal: bool, size: Callable[[], tuple[int, int]]) -> None:
        self._out = out
        self._err = err
        self._is_terminal = is_terminal
        self._size = size
        self._answer = Answer()
        self._drawn = ""

    def begin(self) -> None:
        """A new answer; one that was begun and not ended is wiped (its turn is being sent again)."""
        self._answer = Answer()
        self._redraw()

    def add(self, text: str) -> None:
        """More text."""
        self._answer.add(text)
        if self._is_terminal:
            self._write(printable(text))

    def retract(self, *, start: int, end: int, replacement: str) -> None:
        """Some of it must go."""
        self._answer.retract(start=start, end=end, replacement=replacement)
        self._redraw()

    def end(self, *, final: str | None = None) -> None:
        """The answer is as it stays; `final` is the text as stored, where it is known."""
        if final is not None and final != self._answer.text:
            self._answer.text = final
            self._redraw()
        if not self._is_terminal:
            self._drawn = printable(self._answer.text)
            self._out.write(self._drawn)
        if self._drawn:
            self._out.write("\n")
        self._out.flush()
        self._answer = Answer()
        self._drawn = ""

    def note(self, text: str) -> None:
        """A remark of the program, not of the model."""
        if self._is_terminal:
            self._out.write(f"\x1b[2m{printable(text)}\x1b[0m\n")
        else:
            self._out.write(f"{printable(text)}\n")
        self._out.flush()

    def aside(self, text: str) -> None:
        """A remark while an answer is being shown; on a terminal it gets a line above the answer."""
        if not self._is_terminal:
            print(printable(text), file=self._err, flush=True)
            return
        self._wipe()
        print(f"\x1b[2m{printable(text)}\x1b[0m", file=self._err, flush=True)
        self._write(printable(self._answer.text))

    def _redraw(self) -> None:
        if not self._is_terminal:
            return
        self._wipe()
        self._write(printable(self._answer.text))

    def _wipe(self) -> None:
        columns, rows = self._size()
        up = rows_on_screen(self._drawn, columns=max(columns, 1))
        # What has scrolled off the screen is out of reach: wipe all that is left and show the whole anew.
        reachable = min(up, max(rows - 1, 0))
        self._out.write("\r" + (f"\x1b[{reachable}A" if reachable else "") + _CLEAR_BELOW)
        self._out.flush()
        self._drawn = ""

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
        self._drawn += text
