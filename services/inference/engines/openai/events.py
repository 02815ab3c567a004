"""Server-sent events, read as they arrive."""

from __future__ import annotations

_MAX_EVENT_BYTES = 4 * 2**20


class EventReader:
    """Fed with bytes, gives back the data of the events that became complete.

    Names, ids and comments are left out. An `error:` line, as llama.cpp may send one, is an event with that error.
    """

    __slots__ = ("_buffer", "_data")

    def __init__(self) -> None:
        self._buffer = b""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes.

        Raises:
            ValueError: an event is far too long.
        """
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > _MAX_EVENT_BYTES:
            raise ValueError("an event is too long")
        events: list[bytes] = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif line.startswith(b"error:"):
                self._data.append(b'{"error":' + line[6:] + b"}")
            elif not line:
                events += self._complete()
        return events

    def end(self) -> list[bytes]:
        """Nothing more comes: an event that lacks only its blank line counts."""
        return [*self.feed(b"\n"), *self._complete()]

    def _complete(self) -> list[bytes]:
        if not self._data:
            return []
        event = b"\n".join(self._data)
        self._data.clear()
        return [event]
