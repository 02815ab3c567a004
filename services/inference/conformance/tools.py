"""Tools: a call is a name and arguments that follow the tool's schema, and comes in deltas."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from services.inference.conformance.answer import Answer
from services.inference.conformance.case import Case, needs
from services.inference.conformance.expectation import expect, expect_finish, quote
from services.inference.conformance.schema import parse_valid
from services.inference.conformance.subject import Subject
from services.inference.model import Capability, FinishReason, Message, Role, Tool, ToolCall, ToolMode, ToolOptions

_SCHEMAS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "enum": ["Paris", "Berlin", "Tokyo"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
    },
    "switch_light": {
        "type": "object",
        "properties": {"on": {"type": "boolean"}},
        "required": ["on"],
        "additionalProperties": False,
    },
}
_TOOLS = (
    Tool("get_weather", "The weather of a city for some days.", json.dumps(_SCHEMAS["get_weather"])),
    Tool("switch_light", "Switches the light on or off.", json.dumps(_SCHEMAS["switch_light"])),
)
_QUESTION = "What is the weather in Paris for the next 3 days?"
_USE = needs(Capability.TOOLS)


@dataclass(slots=True)
class _Call:
    id: str
    name: str
    arguments: str = ""


def _calls(answer: Answer) -> list[_Call]:
    calls: list[_Call] = []
    for delta in answer.deltas:
        for part in delta.tool_calls:
            expect(0 <= part.index <= len(calls), f"call {part.index} came after {len(calls)} calls")
            if part.index == len(calls):
                expect(part.id and part.name, "the first delta of a call has no id or no name")
                calls.append(_Call(part.id, part.name))
            else:
                expect(not part.id and not part.name, "a later delta of a call has an id or a name")
            calls[part.index].arguments += part.arguments
    expect(len({call.id for call in calls}) == len(calls), "two calls have the same id")
    return calls


def _checked(answer: Answer) -> list[_Call]:
    expect_finish(answer.end, FinishReason.TOOL_CALLS)
    calls = _calls(answer)
    expect(calls, "the answer ended with tool_calls and has none")
    for call in calls:
        expect(call.name in _SCHEMAS, f"it calls {quote(call.name)}, which there is not")
        parse_valid(call.arguments, _SCHEMAS[call.name])
    return calls


async def _required(subject: Subject) -> None:
    for temperature in (0.0, 1.0):
        answer = await subject.ask(
            _QUESTION, temperature=temperature, seed=1, tools=ToolOptions(_TOOLS[:1], ToolMode.REQUIRED)
        )
        _checked(answer)
        expect(answer.tokens > 0, "a call took no tokens")


async def _one_of_two(subject: Subject) -> None:
    _checked(await subject.ask(_QUESTION, tools=ToolOptions(_TOOLS, ToolMode.REQUIRED)))


async def _named(subject: Subject) -> None:
    answer = await subject.ask(_QUESTION, tools=ToolOptions(_TOOLS, ToolMode.REQUIRED, function="switch_light"))
    names = {call.name for call in _checked(answer)}
    expect(names == {"switch_light"}, f"it calls {', '.join(sorted(names))}, and must call switch_light")


async def _single(subject: Subject) -> None:
    answer = await subject.ask(
        "What is the weather in Paris and in Tokyo?", tools=ToolOptions(_TOOLS, ToolMode.REQUIRED, single_call=True)
    )
    calls = _checked(answer)
    expect(len(calls) == 1, f"it makes {len(calls)} calls, and may make one")


async def _automatic(subject: Subject) -> None:
    answer = await subject.ask(_QUESTION, tools=ToolOptions(_TOOLS))
    if answer.end.finish_reason is FinishReason.TOOL_CALLS:
        expect(_calls(answer), "the answer ended with tool_calls and has none")
        return
    expect_finish(answer.end, FinishReason.STOP, FinishReason.LENGTH)
    expect(answer.text.strip() or _calls(answer), "with tools the answer is empty")


async def _at_the_limit(subject: Subject) -> None:
    answer = await subject.ask(_QUESTION, max_tokens=2, tools=ToolOptions(_TOOLS, ToolMode.REQUIRED))
    expect_finish(answer.end, FinishReason.LENGTH)
    expect(answer.tokens == 2, f"{answer.tokens} tokens came, and the limit is 2")


async def _cancelled(subject: Subject) -> None:
    answer = subject.start(_QUESTION, tools=ToolOptions(_TOOLS, ToolMode.REQUIRED))
    subject.engine.cancel(answer.request.key)
    expect(answer.ended, "a cancelled answer did not get its end at once")
    expect_finish(answer.end, FinishReason.CANCELLED)
    _checked(await subject.ask(_QUESTION, tools=ToolOptions(_TOOLS, ToolMode.REQUIRED)))
    answer.raise_complaints()


def _told(result: str) -> tuple[Message, ...]:
    call = ToolCall("call_1", "get_weather", '{"city": "Paris", "days": 1}')
    return (
        Message(Role.USER, "What is the weather in Paris?"),
        Message(Role.ASSISTANT, "", tool_calls=(call,)),
        Message(Role.TOOL, result, tool_call_id="call_1", name="get_weather"),
    )


async def _results(subject: Subject) -> None:
    short, long = _told("sunny"), _told("sunny, and not one cloud is to be seen in the whole wide sky today")
    for tools in (None, ToolOptions(_TOOLS)):
        answers = [await subject.ask(messages, tools=tools, max_tokens=8) for messages in (short, long)]
        for answer in answers:
            expect_finish(answer.end, FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS)
        first, second = (answer.end.usage.prompt_tokens for answer in answers)
        expect(second > first, "what a tool gave back is not part of the prompt")


CASES = (
    Case("tool_required", "a tool that must be called is, with valid arguments", _required, _USE),
    Case("tool_of_two", "of several tools one is called with its own arguments", _one_of_two, _USE),
    Case("tool_named", "a function that is named is the one that is called", _named, _USE),
    Case("tool_single", "a model that may make one call makes one", _single, _USE),
    Case("tool_auto", "a model that may call tools calls them or answers", _automatic, _USE),
    Case("tool_limit", "calls end at the limit", _at_the_limit, _USE),
    Case("tool_cancel", "calls are cancelled as answers are", _cancelled, _USE),
    Case("tool_results", "what tools gave back is part of the prompt", _results, _USE),
)
