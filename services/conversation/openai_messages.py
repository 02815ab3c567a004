"""The messages of OpenAI's request: who says what, and which result belongs to which call of a tool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from services.conversation.chat_model import ChatMessage, Role, ToolCall
from services.conversation.openai_body import Body, Name, invalid, unsupported

MESSAGE_LIMIT = 2048
MAX_CONTENT = 1_000_000
MAX_CALLS = 128

_MEDIA = ("image_url", "input_audio", "file")
"""Kinds of content that no model here takes."""


class _TextPart(Body):
    type: Literal["text"]
    text: str = Field(max_length=MAX_CONTENT)


class _RefusalPart(Body):
    type: Literal["refusal"]
    refusal: str = Field(max_length=MAX_CONTENT)


_Content = Annotated[str, Field(max_length=MAX_CONTENT)] | list[_TextPart]
_AssistantContent = (
    Annotated[str, Field(max_length=MAX_CONTENT)]
    | list[Annotated[_TextPart | _RefusalPart, Field(discriminator="type")]]
)


class _Function(Body):
    name: Name
    arguments: str = Field(max_length=MAX_CONTENT)


class _Call(Body):
    id: str = Field(min_length=1, max_length=128)
    type: Literal["function"] = "function"
    function: _Function
    index: int | None = None
    """Of a call as it was streamed; some clients send it back."""


class _System(Body):
    role: Literal["system", "developer"]
    content: _Content
    name: Name | None = None


class _User(Body):
    role: Literal["user"]
    content: _Content
    name: Name | None = None


class _Assistant(Body):
    role: Literal["assistant"]
    content: _AssistantContent | None = None
    refusal: str | None = Field(None, max_length=MAX_CONTENT)
    name: Name | None = None
    tool_calls: list[_Call] | None = Field(None, max_length=MAX_CALLS)
    # What an answer of this API has beside its text, for clients that send it back as it was.
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None


class _ToolResult(Body):
    role: Literal["tool"]
    content: _Content
    tool_call_id: str = Field(min_length=1, max_length=128)
    name: Name | None = None


Message = Annotated[_System | _User | _Assistant | _ToolResult, Field(discriminator="role")]


@dataclass(frozen=True, slots=True)
class Said:
    """The system prompt in front, the history, and the text of the message that is to be answered.

    With `ends_in_history` that message is the last of the history: a tool's result, or one of somebody with a name.
    """

    system_prompt: str
    history: tuple[ChatMessage, ...]
    user_message: str
    ends_in_history: bool
    has_calls: bool


def split(messages: Sequence[Message]) -> Said:
    """Take messages apart.

    Raises:
        DomainError: INVALID_BODY.
    """
    first = 0
    while first < len(messages) and isinstance(message := messages[first], _System) and not message.name:
        first += 1
    last = messages[-1]
    where = f"messages.{len(messages) - 1}"
    if first == len(messages) or not isinstance(last, _User | _ToolResult):
        raise invalid("The last message must have the role 'user' or 'tool'.", f"{where}.role")
    if isinstance(last, _User) and not _text(last).strip():
        raise invalid("The last message must not be empty.", f"{where}.content")
    _match_results(messages)
    ends_in_history = isinstance(last, _ToolResult) or last.name is not None
    history = [_said(message) for message in messages[first : None if ends_in_history else -1]]
    return Said(
        system_prompt="\n\n".join(_text(message) for message in messages[:first]),
        history=tuple(message for message in history if message.content or message.tool_calls or message.tool_call_id),
        user_message=_text(last),
        ends_in_history=ends_in_history,
        has_calls=any(isinstance(message, _ToolResult) for message in messages),
    )


def refuse_media(messages: Any) -> None:
    """Refuse pictures, sound and files, and calls of another kind, by name.

    Raises:
        DomainError: UNSUPPORTED_PARAMETER.
    """
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        if not isinstance(message, dict):
            continue
        for legacy in ("audio", "function_call"):
            if message.get(legacy) is not None:
                raise unsupported(f"messages.{number}.{legacy}")
        if message.get("role") == "function":
            raise unsupported(f"messages.{number}.role", "results have the role 'tool'")
        for position, part in enumerate(_items(message, "content")):
            if isinstance(part, dict) and part.get("type") in _MEDIA:
                raise unsupported(f"messages.{number}.content.{position}.{part['type']}", "content is text here")
        for position, call in enumerate(_items(message, "tool_calls")):
            if isinstance(call, dict) and call.get("type", "function") != "function":
                raise unsupported(f"messages.{number}.tool_calls.{position}.type", "tools are functions here")


def _items(message: dict[str, Any], name: str) -> list[Any]:
    items = message.get(name)
    return items if isinstance(items, list) else []


def _match_results(messages: Sequence[Message]) -> None:
    """Each result follows the call that it answers, and each call has its result before anybody else speaks."""
    waiting: dict[str, str] = {}
    """Where the calls stand that have no result yet, by their ids."""
    for number, message in enumerate(messages):
        if isinstance(message, _ToolResult):
            if waiting.pop(message.tool_call_id, None) is None:
                param = f"messages.{number}.tool_call_id"
                raise invalid(
                    f"{param}: must be the id of a call in 'tool_calls' of the message before, which has no result"
                    " yet.",
                    param,
                )
            continue
        _all_answered(waiting)
        if not isinstance(message, _Assistant):
            continue
        calls = message.tool_calls or ()
        if len(_text(message)) + sum(len(call.function.arguments) for call in calls) > MAX_CONTENT:
            param = f"messages.{number}.tool_calls"
            raise invalid(f"{param}: must have at most {MAX_CONTENT} characters with the content.", param)
        if message.content is None and not calls and not message.refusal:
            param = f"messages.{number}.content"
            raise invalid(f"{param}: needed where there are no 'tool_calls'.", param)
        for position, call in enumerate(calls):
            param = f"messages.{number}.tool_calls.{position}.id"
            if call.id in waiting:
                raise invalid(f"{param}: another call has this id.", param)
            waiting[call.id] = param
    _all_answered(waiting)


def _all_answered(waiting: dict[str, str]) -> None:
    for call_id, param in waiting.items():
        raise invalid(f"{param}: the call '{call_id}' must be followed by a message with the role 'tool'.", param)


def _said(message: Message) -> ChatMessage:
    match message:
        case _System():
            return ChatMessage(Role.SYSTEM, _text(message), name=message.name or "")
        case _User():
            return ChatMessage(Role.USER, _text(message), name=message.name or "")
        case _ToolResult():
            return ChatMessage(Role.TOOL, _text(message), tool_call_id=message.tool_call_id, name=message.name or "")
        case _Assistant():
            calls = tuple(
                ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()
            )
            return ChatMessage(Role.ASSISTANT, _text(message), tool_calls=calls, name=message.name or "")


def _text(message: Message) -> str:
    """The content as one text."""
    content = message.content
    if isinstance(message, _Assistant) and not content:
        return message.refusal or ""
    if isinstance(content, str):
        return content
    return "".join(part.text if isinstance(part, _TextPart) else part.refusal for part in content or ())
