"""Calls are told from text however the answer is cut, and a tool's schema keeps its meaning inside another."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.engines.llama_tools import CallReader, call_schema, in_words
from services.inference.engines.logprobs import Logprobs
from services.inference.engines.tool_calls import parameters_of
from services.inference.model import Delta, GenerationRequest, Message, Role, Tool, ToolCall, ToolMode, ToolOptions
from services.runtime.errors import DomainError, Reason

TOOLS = ToolOptions((Tool("get_weather"), Tool("switch_light")))
REQUIRED = ToolOptions(TOOLS.tools, ToolMode.REQUIRED)
ARGUMENTS = '{"city": "a }] \\" {\\\\", "deep": {"list": [1, {"x": "]"}]}}'


def read(options: ToolOptions, parts: list[str]) -> tuple[str, list[tuple[str, str]]]:
    """The text of an answer, and its calls."""
    reader = CallReader(options)
    text = ""
    calls: list[tuple[str, str]] = []
    ids: list[str] = []
    for part in parts:
        more, deltas = reader.feed(part)
        text += more
        for delta in deltas:
            if delta.index == len(calls):
                assert delta.id
                ids.append(delta.id)
                calls.append((delta.name, ""))
            else:
                assert not delta.id
                assert not delta.name
            name, arguments = calls[delta.index]
            calls[delta.index] = (name, arguments + delta.arguments)
    assert len(set(ids)) == len(calls) == reader.calls
    return text + reader.flush(), calls


def cut(text: str, places: list[int]) -> list[str]:
    at = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(at)]


cuts = st.lists(st.integers(0, 10_000), max_size=30)
CALL = f'{{"name": "get_weather", "arguments": {ARGUMENTS}}}'


@pytest.mark.parametrize(
    ("answer", "text", "calls"),
    [
        (CALL, "", [("get_weather", ARGUMENTS)]),
        (f"<tool_call>\n{CALL}\n</tool_call>", "", [("get_weather", ARGUMENTS)]),
        (
            f'\n <tool_call>{CALL}</tool_call>\n<tool_call>{{"name":"switch_light","parameters":{{}}}}</tool_call>',
            "",
            [("get_weather", ARGUMENTS), ("switch_light", "{}")],
        ),
        ("It is sunny.", "It is sunny.", []),
        ("<tool", "<tool", []),
        ("  ", "  ", []),
        (f"I call {CALL}", f"I call {CALL}", []),
        ('{"name": "Ada", "age": 36}', '{"name": "Ada", "age": 36}', []),
        ('{"name": "no_such_tool", "arguments": {}}', '{"name": "no_such_tool", "arguments": {}}', []),
        (f'{{"name": "{"x" * 300}"', f'{{"name": "{"x" * 300}"', []),
    ],
)
@given(places=cuts)
def test_calls_are_told_from_text(answer: str, text: str, calls: list[tuple[str, str]], places: list[int]) -> None:
    assert read(TOOLS, cut(answer, places)) == (text, calls)


@given(places=cuts)
def test_an_answer_that_must_be_a_call_has_no_text(places: list[int]) -> None:
    assert read(REQUIRED, cut(CALL, places)) == ("", [("get_weather", ARGUMENTS)])
    # Cut off by a limit.
    assert read(REQUIRED, cut(CALL[:12], places)) == ("", [])


def test_a_schema_that_refers_to_itself_does_so_where_it_stands() -> None:
    schema: dict[str, Any] = {"$defs": {"c": {"enum": ["Ulm"]}}, "properties": {"city": {"$ref": "#/$defs/c"}}}
    whole = json.loads(call_schema(ToolOptions((Tool("a"), Tool("b", parameters=json.dumps(schema))))))
    moved = whole["anyOf"][1]["properties"]["arguments"]["properties"]["city"]["$ref"]
    place: Any = whole
    for step in moved.removeprefix("#/").split("/"):
        place = place[int(step)] if isinstance(place, list) else place[step]
    assert place == {"enum": ["Ulm"]}


def test_only_the_function_that_is_named_may_be_called() -> None:
    whole = json.loads(call_schema(ToolOptions(TOOLS.tools, function="switch_light")))
    assert [call["properties"]["name"] for call in whole["anyOf"]] == [{"const": "switch_light"}]
    with pytest.raises(DomainError) as caught:
        call_schema(ToolOptions(TOOLS.tools, function="other"))
    assert [field.field for field in caught.value.fields] == ["tools.function"]


@pytest.mark.parametrize("text", ["no JSON", "[]", "3", "[" * 100_000])
def test_parameters_that_are_no_schema(text: str) -> None:
    with pytest.raises(DomainError) as caught:
        parameters_of(Tool("a", parameters=text))
    assert caught.value.reason is Reason.INVALID_FIELD


def test_a_template_that_knows_no_tools_is_told_of_them_in_words() -> None:
    call = ToolCall("1", "get_weather", "not JSON")
    chat = (
        Message(Role.SYSTEM, "Be brief."),
        Message(Role.USER, "Paris?"),
        Message(Role.ASSISTANT, "", tool_calls=(call,)),
        Message(Role.TOOL, "sunny", tool_call_id="1"),
    )
    told = in_words(chat, REQUIRED)
    assert [message.role for message in told] == [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER]
    assert told[0].content.startswith("Be brief.")
    assert "switch_light" in told[0].content
    assert '"not JSON"' in told[2].content
    assert "sunny" in told[3].content
    assert not any(message.tool_calls for message in told)
    assert in_words(chat[1:2], TOOLS)[0].role is Role.SYSTEM
    assert in_words(chat[1:2], None) == [chat[1]]


def test_a_token_that_llama_cpp_is_silent_of_changes_no_mean() -> None:
    asked = GenerationRequest(1, "g", "m", (), top_logprobs=1, confidence=True)
    logprobs = Logprobs(asked)
    known = {"bytes": [97], "logprob": -1.0, "top_logprobs": [{"bytes": [98], "logprob": -0.5}] * 2}
    logprobs.take([known], 1)
    # The second of the two completes a character.
    logprobs.take([{"bytes": [195, 169], "logprob": -3.0, "top_logprobs": []}], 2)
    logprobs.take([], 1)
    delta = Delta("g", "aé", [], 4)
    logprobs.complete(delta)
    told = delta.logprobs
    assert delta.logprob_sum == -8.0
    assert [each.logprob for each in told] == [-1.0, -2.0, -3.0, -2.0]
    assert [each.token for each in told] == ["a", "", "é", ""]
    assert [len(each.top) for each in told] == [1, 0, 0, 0]
    # One for each token, also of one that nothing was ever said of.
    late = Delta("g", "", [], 1)
    logprobs.complete(late)
    assert [each.logprob for each in late.logprobs] == [-2.0]
