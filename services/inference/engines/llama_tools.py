"""Tools for models of llama.cpp.

A call that must be made is a form that the answer must have, and llama.cpp's samplers hold it to that: its own endpoint
for tools lets a model talk as long as it likes before a call. A model whose template knows no tools is told of them in
words.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Any

from services.inference.engines.tool_calls import callable_tools, must_call, parameters_of
from services.inference.model import Message, Role, ToolCall, ToolCallDelta, ToolOptions

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_MARKS = (_OPEN, '{"name"')
_HEAD = re.compile(r'\s*(?:<tool_call>\s*)?\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
_LONGEST_HEAD = 200

_INSTRUCTION = """\
You may call functions. These are their signatures, one per line:
{signatures}
To call a function, answer with nothing but a JSON object with its name and its arguments:
{{"name": "<name>", "arguments": {{...}}}}"""
_MUST_CALL = "Answer with such a call."


def call_schema(tools: ToolOptions) -> str:
    """What a call looks like: a JSON Schema.

    Raises:
        DomainError: INVALID_FIELD for parameters that are no schema, or a function that is none of the tools.
    """
    calls: list[dict[str, Any]] = []
    for at, tool in enumerate(callable_tools(tools)):
        place = f"/anyOf/{at}/properties/arguments"
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool.name}, "arguments": _moved(parameters_of(tool), place)},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return json.dumps({"anyOf": calls})


def openai_tools(tools: ToolOptions) -> list[dict[str, Any]]:
    """Tools as llama.cpp takes them."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": parameters_of(tool),
            },
        }
        for tool in tools.tools
    ]


def openai_message(message: Message) -> dict[str, Any]:
    """A message as llama.cpp takes it, with its calls."""
    out: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.tool_calls:
        out["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        out["tool_call_id"] = message.tool_call_id
    if message.name and message.role is Role.TOOL:
        out["name"] = message.name
    return out


def in_words(messages: Sequence[Message], tools: ToolOptions | None) -> list[Message]:
    """Messages for a template that knows no tools: calls and what came of them are text, and so are the tools."""
    told = [_in_words(message) for message in messages]
    if tools is None:
        return told
    signatures = "\n".join(
        json.dumps({"name": tool.name, "description": tool.description, "parameters": parameters_of(tool)})
        for tool in tools.tools
    )
    instruction = _INSTRUCTION.format(signatures=signatures)
    if must_call(tools):
        instruction = f"{instruction}\n{_MUST_CALL}"
    if told and told[0].role is Role.SYSTEM:
        return [replace(told[0], content=f"{told[0].content}\n\n{instruction}"), *told[1:]]
    return [Message(Role.SYSTEM, instruction), *told]


class _State(Enum):
    OPEN = auto()
    """Nothing but what may be the start of a call has come."""
    HEAD = auto()
    ARGUMENTS = auto()
    AFTER = auto()
    TEXT = auto()


class CallReader:
    """Fed with an answer, tells its calls from its text.

    An answer that begins as a call does is one; in the middle of text nothing is. Text that may still become a call is
    held back.
    """

    __slots__ = ("_buffer", "_depth", "_escaped", "_in_string", "_must", "_names", "_state", "calls", "complete")

    def __init__(self, tools: ToolOptions) -> None:
        self._names = frozenset(tool.name for tool in tools.tools)
        self._must = must_call(tools)
        self._state = _State.HEAD if self._must else _State.OPEN
        self._buffer = ""
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.calls = 0
        """That have begun."""
        self.complete = 0
        """That are whole."""

    @property
    def in_text(self) -> bool:
        """The answer is text, and what is fed comes back."""
        return self._state is _State.TEXT

    def feed(self, text: str) -> tuple[str, list[ToolCallDelta]]:
        """Add text: what of it is text of the answer, and what is of calls."""
        if self.in_text:
            return text, []
        self._buffer += text
        found: list[ToolCallDelta] = []
        while self._step(found):
            pass
        if self.in_text:
            text, self._buffer = self._buffer, ""
            return text, found
        return "", found

    def flush(self) -> str:
        """The answer is over: what was held back and is no call."""
        text, self._buffer = self._buffer, ""
        return text if self._state in (_State.OPEN, _State.HEAD) and not self._must and not self.calls else ""

    def _step(self, found: list[ToolCallDelta]) -> bool:
        if self._state is _State.OPEN:
            return self._open()
        if self._state is _State.HEAD:
            return self._head(found)
        if self._state is _State.ARGUMENTS:
            return self._take_arguments(found)
        return self._after() if self._state is _State.AFTER else False

    def _open(self) -> bool:
        start = self._buffer.lstrip()
        if any(start.startswith(mark) for mark in _MARKS):
            self._state = _State.HEAD
            return True
        if start and not any(mark.startswith(start) for mark in _MARKS):
            self._state = _State.TEXT
        return False

    def _head(self, found: list[ToolCallDelta]) -> bool:
        head = _HEAD.match(self._buffer)
        if head is not None and head[1] in self._names:
            self._buffer = self._buffer[head.end() :]
            self._state = _State.ARGUMENTS
            found.append(ToolCallDelta(self.calls, f"call_{secrets.token_hex(12)}", head[1]))
            self.calls += 1
            return True
        if (head is not None or len(self._buffer) > _LONGEST_HEAD) and not self._must:
            self._state = _State.AFTER if self.calls else _State.TEXT
        return False

    def _take_arguments(self, found: list[ToolCallDelta]) -> bool:
        end = self._end_of_arguments()
        part, self._buffer = self._buffer[:end], self._buffer[end:]
        if part:
            found.append(ToolCallDelta(self.calls - 1, arguments=part))
        if self._depth:
            return False
        self.complete += 1
        self._state = _State.AFTER
        return True

    def _end_of_arguments(self) -> int:
        for at, character in enumerate(self._buffer):
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._in_string = False
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    return at + 1
        return len(self._buffer)

    def _after(self) -> bool:
        at = self._buffer.find(_OPEN)
        if at < 0:
            self._buffer = self._buffer[-len(_OPEN) :]
            return False
        self._buffer = self._buffer[at:]
        self._state = _State.HEAD
        return True


def _in_words(message: Message) -> Message:
    if message.role is Role.TOOL:
        return Message(Role.USER, f"<tool_response>\n{message.content}\n</tool_response>")
    if not message.tool_calls:
        return message
    calls = [
        f'{_OPEN}\n{{"name": {json.dumps(call.name)}, "arguments": {_arguments(call)}}}\n{_CLOSE}'
        for call in message.tool_calls
    ]
    return Message(message.role, "\n".join([*([message.content] if message.content else []), *calls]))


def _arguments(call: ToolCall) -> str:
    # Templates read them, and fail on what is no object.
    try:
        whole = isinstance(json.loads(call.arguments), dict)
    except (ValueError, RecursionError):
        whole = False
    return call.arguments if whole else json.dumps({"arguments": call.arguments})


def _moved(schema: Any, place: str) -> Any:
    """A schema that stands at a place of another: what it refers to within itself has moved with it."""
    if isinstance(schema, Mapping):
        return {
            key: f"#{place}{value[1:]}"
            if key == "$ref" and isinstance(value, str) and value.startswith("#")
            else _moved(value, place)
            for key, value in schema.items()
        }
    if isinstance(schema, list):
        return [_moved(item, place) for item in schema]
    return schema
