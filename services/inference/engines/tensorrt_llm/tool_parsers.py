"""Calls of tools in what a model writes, told apart from text while it is being written.

Parsers are fed with text whatever its cuts, and never give back a part of a mark or of a call as text.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from services.inference.engines.tensorrt_llm.call_scanner import CallScanner
from services.inference.model import ToolCallDelta

_OPEN = "<tool_call>"
_CLOSE = "</tool_call>"
_SEPARATORS = " \t\r\n,;[]"
"""Between the calls of an answer that has nothing but calls."""


@dataclass(slots=True)
class Parsed:
    """What is new: text, and more of calls. When there is both, the text came first."""

    text: str = ""
    calls: list[ToolCallDelta] = field(default_factory=list)


class ToolParser(Protocol):
    """Fed with the text of an answer, tells calls apart."""

    @property
    def called(self) -> bool:
        """Whether a call has begun. From there on tokens are no longer those of the text."""
        ...

    def feed(self, text: str) -> Parsed:
        """Add text."""
        ...

    def end(self) -> Parsed:
        """The answer is over: what was held back."""
        ...


def new_call_id() -> str:
    """An id that no other call of the conversation has."""
    return f"call_{secrets.token_hex(12)}"


class _Calls:
    """The calls of one answer, as deltas."""

    __slots__ = ("_has_arguments", "_new_id", "_parsed", "_scanner", "index")

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._parsed = Parsed()
        self._scanner: CallScanner | None = None
        self._has_arguments = False
        self.index = -1

    def open(self, parsed: Parsed) -> CallScanner:
        """Begin to read a call. Its deltas go to `parsed` until `redirect`."""
        self._parsed = parsed
        self._has_arguments = False
        self._scanner = CallScanner(on_name=self._name, on_arguments=self._arguments)
        return self._scanner

    def redirect(self, parsed: Parsed) -> None:
        """Later deltas go here."""
        self._parsed = parsed

    def close(self) -> None:
        """The call is complete. One without arguments has the empty ones."""
        if self._scanner is not None and self._scanner.name and not self._has_arguments:
            self._arguments("{}")
        self._scanner = None

    def _name(self, name: str) -> None:
        self.index += 1
        self._parsed.calls.append(ToolCallDelta(self.index, self._new_id(), name))

    def _arguments(self, text: str) -> None:
        self._has_arguments = True
        calls = self._parsed.calls
        if calls and calls[-1].index == self.index:
            last = calls[-1]
            calls[-1] = ToolCallDelta(self.index, last.id, last.name, last.arguments + text)
        else:
            calls.append(ToolCallDelta(self.index, arguments=text))


class HermesParser:
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, any number of them, with text around: Qwen, Hermes.

    What stands between the marks and is no call is text, without the marks.
    """

    def __init__(self, *, new_id: Callable[[], str] = new_call_id) -> None:
        self._calls = _Calls(new_id)
        self._held = ""
        self._scanner: CallScanner | None = None
        self._inside = False
        # What stands between the marks, until it is known to be a call.
        self._raw = ""
        self._behind = False

    @property
    def called(self) -> bool:
        """Whether a call has begun."""
        return self._inside or self._calls.index >= 0

    def feed(self, text: str) -> Parsed:
        """Add text."""
        parsed = Parsed()
        self._calls.redirect(parsed)
        rest = self._held + text
        self._held = ""
        while rest:
            rest = self._inner(rest, parsed) if self._inside else self._outer(rest, parsed)
        return parsed

    def end(self) -> Parsed:
        """What was held back: a mark that was not completed is text, a call that was cut off stays cut off."""
        parsed = Parsed()
        self._calls.redirect(parsed)
        if self._inside:
            self._leave(parsed, complete=False)
        else:
            parsed.text = self._held
        self._held = ""
        return parsed

    def _outer(self, rest: str, parsed: Parsed) -> str:
        at = rest.find(_OPEN)
        if at >= 0:
            self._tell(rest[:at], parsed)
            self._inside = True
            self._raw = ""
            self._scanner = self._calls.open(parsed)
            return rest[at + len(_OPEN) :]
        cut = _tail(rest, _OPEN)
        self._tell(rest[:cut], parsed)
        self._held = rest[cut:]
        return ""

    def _tell(self, text: str, parsed: Parsed) -> None:
        # The space behind a call is part of the form.
        if self._behind:
            text = text.lstrip()
        if text:
            self._behind = False
            parsed.text += text

    def _inner(self, rest: str, parsed: Parsed) -> str:
        scanner = self._scanner
        if scanner is not None and not scanner.ended and not scanner.failed:
            taken = self._feed_scanner(scanner, rest)
            if not scanner.ended and not scanner.failed:
                return ""
            return rest[taken:]
        at = rest.find(_CLOSE)
        if at >= 0:
            self._raw += rest[:at]
            self._leave(parsed, complete=True)
            return rest[at + len(_CLOSE) :]
        cut = _tail(rest, _CLOSE)
        self._raw += rest[:cut]
        self._held = rest[cut:]
        return ""

    def _feed_scanner(self, scanner: CallScanner, rest: str) -> int:
        taken = scanner.feed(rest)
        self._raw += rest[:taken]
        if scanner.failed and self._raw.endswith("<"):
            # Perhaps of the closing mark.
            self._raw = self._raw[:-1]
            return taken - 1
        return taken

    def _leave(self, parsed: Parsed, *, complete: bool) -> None:
        scanner = self._scanner
        if scanner is not None and scanner.name:
            if complete or scanner.ended:
                self._calls.close()
        else:
            parsed.text += self._raw.strip()
        self._behind = complete and scanner is not None and bool(scanner.name)
        self._scanner = None
        self._inside = False
        self._raw = ""


class LeadingJsonParser:
    """An answer that is nothing but calls, as JSON objects one after the other or in a list: Llama 3, and our own form.

    An answer that begins like one but names none of the tools is text.
    """

    def __init__(self, names: Collection[str], *, new_id: Callable[[], str] = new_call_id) -> None:
        self._names = frozenset(names)
        self._calls = _Calls(new_id)
        self._raw = ""
        self._is_text = False
        # What a model adds behind its calls is nobody's text.
        self._is_over = False
        self._scanner: CallScanner | None = None

    @property
    def called(self) -> bool:
        """Whether a call has begun."""
        return self._calls.index >= 0

    def feed(self, text: str) -> Parsed:
        """Add text."""
        parsed = Parsed()
        if self._is_text:
            parsed.text = text
            return parsed
        if not self.called:
            self._raw += text
        rest = text
        while rest and not self._is_text and not self._is_over:
            rest = self._step(rest, parsed)
        if self._is_text:
            parsed.text, self._raw = self._raw, ""
        return parsed

    def end(self) -> Parsed:
        """What was held back."""
        parsed = Parsed()
        if not self._is_text and not self.called:
            parsed.text, self._raw = self._raw, ""
        return parsed

    def _step(self, rest: str, parsed: Parsed) -> str:
        if self._scanner is None:
            rest = rest.lstrip(_SEPARATORS)
            if rest and not rest.startswith("{"):
                return self._give_up()
            if not rest:
                return ""
            self._scanner = self._calls.open(Parsed())
        return self._scan(self._scanner, rest, parsed)

    def _scan(self, scanner: CallScanner, rest: str, parsed: Parsed) -> str:
        # Deltas are kept apart until the name is known to be one of a tool.
        told = Parsed()
        self._calls.redirect(told)
        before = self._calls.index
        taken = scanner.feed(rest)
        if scanner.name not in self._names and (scanner.name or scanner.failed):
            self._calls.index = before
            return self._give_up()
        if scanner.ended:
            self._calls.close()
            self._scanner = None
        elif scanner.failed:
            self._give_up()
        _append(parsed, told)
        return rest[taken:]

    def _give_up(self) -> str:
        """No call comes any more. Without one before, all of it was text."""
        self._is_text = not self.called
        self._is_over = self.called
        return ""


def _append(parsed: Parsed, told: Parsed) -> None:
    for call in told.calls:
        last = parsed.calls[-1] if parsed.calls else None
        if last is not None and last.index == call.index:
            parsed.calls[-1] = ToolCallDelta(last.index, last.id, last.name, last.arguments + call.arguments)
        else:
            parsed.calls.append(call)


def _tail(text: str, mark: str) -> int:
    """Where the longest end of the text begins that is the start of a mark."""
    for length in range(min(len(mark) - 1, len(text)), 0, -1):
        if mark.startswith(text[-length:]):
            return len(text) - length
    return len(text)
