"""Reads the JSON object of one call of a tool while it is being written.

A caller wants the arguments as they come, and the name before them: so this looks at characters, and parses nothing but
the strings that it needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable

_NAME_KEYS = ("name", "function")
_ARGUMENT_KEYS = ("arguments", "parameters")
_SPACE = " \t\r\n"


class CallScanner:
    """Fed with the characters of an object such as `{"name": "f", "arguments": {"x": 1}}`, whatever their cuts.

    `on_name` hears the name once, then `on_arguments` pieces of the arguments' JSON. Arguments that come before the
    name wait for it; arguments that are a string hold JSON themselves, as some models write them.
    """

    __slots__ = (
        "_arguments", "_depth", "_escaped", "_in_arguments", "_in_string", "_key", "_name_said", "_on_arguments",
        "_on_name", "_quoted", "_role", "_spaces", "_string", "ended", "failed", "name",
    )  # fmt: skip

    def __init__(self, *, on_name: Callable[[str], None], on_arguments: Callable[[str], None]) -> None:
        self._on_name = on_name
        self._on_arguments = on_arguments
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._key: str | None = None
        # What a character at depth 1 outside of a string means next.
        self._role = "key"
        self._string: list[str] = []
        self._in_arguments = False
        # Arguments that were read and not told yet; those that are a string wait in a list of their own.
        self._arguments: list[str] = []
        self._quoted: list[str] | None = None
        # Space is part of a value when more of it follows.
        self._spaces: list[str] = []
        self._name_said = False
        self.name = ""
        self.ended = False
        """The object is complete."""
        self.failed = False
        """It is no object, or none of a call."""

    def feed(self, text: str) -> int:
        """Take characters until the object is complete; how many of them were taken."""
        for at, character in enumerate(text):
            self._take(character)
            if self.ended or self.failed:
                self._flush()
                return at + 1
        self._flush()
        return len(text)

    def _take(self, character: str) -> None:
        if character == "<" and not self._in_string:
            # No JSON has it: a mark comes too early.
            self.failed = True
            return
        if self._in_arguments and (self._in_string or self._depth > 1 or character not in ",}"):
            self._take_argument(character)
        if self._in_string:
            self._take_in_string(character)
        elif character == '"':
            self._in_string = True
            self._string = []
            if self._depth == 0:
                self.failed = True
        elif character in "{[":
            self.failed = self._depth == 0 and character != "{"
            self._depth += 1
        elif character in "}]":
            self._close()
        elif self._depth == 1:
            self._between(character)
        elif self._depth == 0 and character not in _SPACE:
            self.failed = True

    def _take_in_string(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._in_string = False
            if self._depth == 1:
                self._end_string("".join(self._string))
            return
        if self._depth == 1:
            self._string.append(character)

    def _take_argument(self, character: str) -> None:
        if character in _SPACE and not self._in_string:
            self._spaces.append(character)
            return
        begun = self._role == "in value"
        if not begun:
            self._role = "in value"
            self._quoted = [] if character == '"' else None
        target = self._arguments if self._quoted is None else self._quoted
        if begun:
            target += self._spaces
        self._spaces.clear()
        target.append(character)

    def _end_string(self, raw: str) -> None:
        if self._role == "key":
            self._key = _decoded(raw)
            self._role = "colon"
        elif self._role == "value" and self._key in _NAME_KEYS and not self.name:
            self.name = _decoded(raw)

    def _between(self, character: str) -> None:
        if character == ":" and self._role == "colon":
            self._role = "value"
            self._in_arguments = self._key in _ARGUMENT_KEYS
        elif character == ",":
            self._end_value()
            self._role = "key"

    def _close(self) -> None:
        if self._depth == 1:
            self._end_value()
            self.ended = True
        self._depth -= 1

    def _end_value(self) -> None:
        if self._in_arguments and self._quoted is not None:
            self._arguments.append(_decoded("".join(self._quoted)[1:-1]))
            self._quoted = None
        self._in_arguments = False
        self._spaces.clear()

    def _flush(self) -> None:
        if self.name and not self._name_said:
            self._name_said = True
            self._on_name(self.name)
        if self._name_said and self._arguments:
            pieces, self._arguments = self._arguments, []
            self._on_arguments("".join(pieces))
        if self.ended and not self._name_said:
            self.failed = True


def _decoded(raw: str) -> str:
    try:
        return str(json.loads(f'"{raw}"', strict=False))
    except ValueError:
        return raw
