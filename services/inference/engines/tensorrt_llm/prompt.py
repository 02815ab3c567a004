"""Messages to token ids of a prompt, through the model's own chat template.

Everything here blocks and is called in one thread: a tokenizer that is used by two at a time fails with "Already
borrowed". The template marks turns with tokens that have a spelling, such as `<|eot_id|>`; whoever writes that must not
end their turn and speak as the system, so such text goes in as plain tokens.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from services.inference.engines.tensorrt_llm.guiding import described
from services.inference.engines.tensorrt_llm.vocabulary import Vocabulary
from services.inference.model import GeneratedPiece, Message, Role, TokenCounts, Tool, ToolOptions
from services.runtime.errors import DomainError, FieldViolation, Reason

_SHAPES = ("u", "su", "uau", "suau", "suauau")
"""Sequences of system, user and assistant messages that the cost of the template is measured on."""

_ROLES = {"s": Role.SYSTEM, "u": Role.USER, "a": Role.ASSISTANT}


class PromptBuilder:
    """The chat template and the tokenizer of a model. `measure` first."""

    def __init__(self, *, model: str, tokenizer: Any, vocabulary: Vocabulary, describes_tools: bool) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._describes_tools = describes_tools
        self._spelled = re.compile("|".join(map(re.escape, vocabulary.added))) if vocabulary.added else None
        self._takes_system = True
        self._per_message = 0
        self._per_prompt = 0

    def measure(self) -> None:
        """Find out what the template adds.

        Raises:
            DomainError: INVALID_FIELD when it takes no conversation of a user and an assistant.
        """
        try:
            self.build(_shape("su"))
        except DomainError:
            self._takes_system = False
        one = len(self._encode("x"))
        added = {shape: len(self.build(_shape(shape))) - len(shape) * one for shape in _SHAPES}
        pairs = (-(-(added[longer] - added[shape]) // 2) for shape, longer in (("su", "suau"), ("u", "uau")))
        # One more than measured: a text's last token may join the template's next one differently for other texts.
        self._per_message = max(pairs) + 1
        self._per_prompt = max(0, *(total - len(shape) * self._per_message for shape, total in added.items())) + 1

    def count(self, texts: Sequence[str]) -> TokenCounts:
        """Tokens of each text, as content of a message."""
        counts = tuple(len(self._plain(text)) for text in texts)
        return TokenCounts(counts=counts, tokens_per_message=self._per_message, tokens_per_prompt=self._per_prompt)

    def build(self, messages: Sequence[Message], tools: ToolOptions | None = None) -> list[int]:
        """The prompt of a chat. A last message of the assistant is left open, to be continued.

        Raises:
            DomainError: INVALID_FIELD when the template refuses the messages.
        """
        offered = tools.tools if tools is not None else ()
        if offered and self._describes_tools:
            messages = _with_system(messages, described(offered))
        if not self._takes_system:
            messages = _without_system(messages)
        mark = f"content{secrets.token_hex(12)}x"
        plain = {at: message.content for at, message in enumerate(messages) if self._is_suspect(message.content)}
        shown = [
            _as_dict(message, f"{mark}{at}e" if at in plain else message.content) for at, message in enumerate(messages)
        ]
        functions = None if self._describes_tools or not offered else [_function(tool) for tool in offered]
        prompt = self._template(shown, functions)
        ids: list[int] = []
        for place, part in enumerate(re.split(f"{mark}([0-9]+)e", prompt)):
            ids += self._plain(plain[int(part)]) if place % 2 else self._encode(part)
        return ids

    def tokens_of(self, pieces: Sequence[GeneratedPiece]) -> list[int]:
        """The tokens of what was written before: those that are known, and those that its text would be."""
        ids: list[int] = []
        text = ""
        for piece in pieces:
            # Neighbours whose ids are unknown are one text: a word must not be cut into other tokens at their border.
            if not piece.token_ids:
                text += piece.text
                continue
            ids += self._plain(text)
            text = ""
            ids += piece.token_ids
        return ids + self._plain(text)

    def _template(self, messages: list[dict[str, Any]], functions: list[dict[str, Any]] | None) -> str:
        is_open = messages[-1]["role"] == Role.ASSISTANT.value and not messages[-1].get("tool_calls")
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages,
                    tools=functions,
                    tokenize=False,
                    add_generation_prompt=not is_open,
                    continue_final_message=is_open,
                )
            )
        # A template is a program of the model's makers, and raises whatever it likes; its text may quote the messages.
        except Exception as error:
            raise DomainError(
                Reason.INVALID_FIELD,
                f"The chat template of {self._model} does not take this sequence of messages.",
                fields=[FieldViolation("messages", "a sequence of roles that the model's template refuses")],
            ) from error

    def _is_suspect(self, text: str) -> bool:
        return self._spelled is not None and self._spelled.search(text) is not None

    def _plain(self, text: str) -> list[int]:
        """The tokens of a text in which nothing is special: a spelling is cut behind its first character."""
        if self._spelled is None or not self._is_suspect(text):
            return self._encode(text)
        ids: list[int] = []
        begun = 0
        at = self._spelled.search(text)
        while at is not None:
            ids += self._encode(text[begun : at.start() + 1])
            begun = at.start() + 1
            at = self._spelled.search(text, begun)
        return ids + self._encode(text[begun:])

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False)) if text else []


def _shape(letters: str) -> list[Message]:
    return [Message(_ROLES[letter], "x") for letter in letters]


def _with_system(messages: Sequence[Message], text: str) -> list[Message]:
    first = messages[0] if messages else None
    if first is not None and first.role is Role.SYSTEM:
        return [Message(Role.SYSTEM, f"{first.content}\n\n{text}"), *messages[1:]]
    return [Message(Role.SYSTEM, text), *messages]


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """For templates that know no system messages: their text goes before that of the user's next one."""
    merged: list[Message] = []
    before = ""
    for message in messages:
        if message.role is Role.SYSTEM:
            before += f"{message.content}\n\n"
        elif before and message.role is Role.USER:
            merged.append(replace(message, content=before + message.content))
            before = ""
        else:
            merged.append(message)
    return [*merged, Message(Role.USER, before.strip())] if before else merged


def _as_dict(message: Message, content: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"role": message.role.value, "content": content}
    if message.tool_calls:
        shown["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        shown["tool_call_id"] = message.tool_call_id
    if message.name:
        shown["name"] = message.name
    return shown


def _arguments(text: str) -> Any:
    # Templates write them as JSON themselves.
    try:
        return json.loads(text)
    except ValueError:
        return text


def _function(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "description": tool.description}
    try:
        function["parameters"] = (
            json.loads(tool.parameters) if tool.parameters else {"type": "object", "properties": {}}
        )
    except ValueError as error:
        raise DomainError(
            Reason.INVALID_FIELD,
            "The parameters of a tool are no JSON Schema.",
            fields=[FieldViolation("tools.parameters", f"of {tool.name}: must be a JSON Schema that is an object")],
        ) from error
    return {"type": "function", "function": function}
