"""Ends an answer at a stop string without ever showing the start of one."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Fed with text piece by piece, gives back what may be shown.

    Text is held back while it could still become a stop string: the longest tail that is the start of one. When several
    stop strings are met the one that begins first wins, the same however the text was cut into pieces.

    Args:
        stops: The stop strings.
        after: What was shown of the same text before; its end may be the start of one.
    """

    __slots__ = ("_held", "_known", "_longest", "_stops", "stopped")

    def __init__(self, stops: Sequence[str], *, after: str = "") -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max((len(stop) for stop in self._stops), default=0)
        self._held = after[self._held_from(after) :] if self._stops else ""
        self._known = len(self._held)  # characters of what is held that were shown before
        self.stopped = False
        """A stop string was met; nothing more comes out."""

    def feed(self, text: str) -> str:
        """Add text; the part of it, and of what was held back, that may be shown now."""
        if self.stopped:
            return ""
        if not self._stops:
            return text
        window = self._held + text
        held_from = self._held_from(window)
        found = min((at for stop in self._stops if (at := window.find(stop)) >= 0), default=-1)
        # A tail that begins before the match may still become a stop string that begins first.
        if found >= 0 and found <= held_from:
            self._held = ""
            self.stopped = True
            return self._new(window[:found])
        self._held = window[held_from:]
        return self._new(window[:held_from])

    def flush(self) -> str:
        """The answer is over: what was held back is text after all, unless it holds a whole stop string."""
        held, self._held = self._held, ""
        found = min((at for stop in self._stops if (at := held.find(stop)) >= 0), default=-1)
        if found >= 0:
            self.stopped = True
            return self._new(held[:found])
        return self._new(held)

    def _new(self, text: str) -> str:
        """What of a text was not shown before."""
        if not self._known:
            return text
        known, self._known = self._known, max(0, self._known - len(text))
        return text[known:]

    def _held_from(self, window: str) -> int:
        # Only a proper start of a stop string can still grow into one.
        for start in range(max(0, len(window) - self._longest + 1), len(window)):
            tail = window[start:]
            if any(len(tail) < len(stop) and stop.startswith(tail) for stop in self._stops):
                return start
        return len(window)
