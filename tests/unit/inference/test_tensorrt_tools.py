"""Calls of tools in text, however the text is cut."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.engines.tensorrt_llm.guiding import calls_schema, guide_of
from services.inference.engines.tensorrt_llm.tool_parsers import HermesParser, LeadingJsonParser, ToolParser
from services.inference.model import ResponseForm, ResponseFormat, Tool, ToolMode, ToolOptions
from services.runtime.errors import DomainError, Reason

_NAMES = ("weather", "switch")

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_CALLS = st.lists(
    st.tuples(st.sampled_from(_NAMES), st.dictionaries(st.text(max_size=5), _JSON, max_size=3)), min_size=1, max_size=3
)
_INDENTS = st.sampled_from([None, 1])


def hermes() -> ToolParser:
    ids = itertools.count(1)
    return HermesParser(new_id=lambda: f"id{next(ids)}")


def leading() -> ToolParser:
    ids = itertools.count(1)
    return LeadingJsonParser(_NAMES, new_id=lambda: f"id{next(ids)}")


def parse(parser: ToolParser, parts: Sequence[str]) -> tuple[str, list[tuple[str, str, str]]]:
    """Text and calls; each call's id, name and arguments."""
    text = ""
    calls: list[list[str]] = []
    for parsed in [*(parser.feed(part) for part in parts), parser.end()]:
        text += parsed.text
        for delta in parsed.calls:
            if delta.index == len(calls):
                assert delta.id
                assert delta.name
                calls.append([delta.id, delta.name, ""])
            else:
                assert not delta.id
                assert not delta.name
            calls[delta.index][2] += delta.arguments
    return text, [(call[0], call[1], call[2]) for call in calls]


def cut(text: str, places: Sequence[int]) -> list[str]:
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(ends)]


@given(
    before=st.text(alphabet="ab <>{}_tolca\n", max_size=12).filter(lambda text: "<tool_call>" not in text),
    calls=_CALLS,
    indent=_INDENTS,
    places=st.lists(st.integers(0, 2000), max_size=40),
)
def test_marked_calls(
    before: str, calls: list[tuple[str, dict[str, Any]]], indent: int | None, places: list[int]
) -> None:
    written = before + "\n".join(
        f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, indent=indent)}\n</tool_call>"
        for name, arguments in calls
    )
    text, found = parse(hermes(), cut(written, places))
    assert text == before
    assert [(name, json.loads(arguments)) for _, name, arguments in found] == calls
    assert [call[0] for call in found] == [f"id{n + 1}" for n in range(len(calls))]


@given(
    calls=_CALLS,
    indent=_INDENTS,
    key=st.sampled_from(["arguments", "parameters"]),
    form=st.sampled_from(["list", "lines", "semicolons"]),
    places=st.lists(st.integers(0, 2000), max_size=40),
)
def test_calls_alone(
    calls: list[tuple[str, dict[str, Any]]], indent: int | None, key: str, form: str, places: list[int]
) -> None:
    objects = [json.dumps({"name": name, key: arguments}, indent=indent) for name, arguments in calls]
    written = {"list": f"[{', '.join(objects)}]", "lines": "\n".join(objects), "semicolons": "; ".join(objects)}[form]
    text, found = parse(leading(), cut(written, places))
    assert text == ""
    assert [(name, json.loads(arguments)) for _, name, arguments in found] == calls


_FRAGMENTS = st.lists(
    st.sampled_from(
        [
            *("<tool_call>", "</tool_call>", "<tool_", '{"name": "weather"', '{"name": "x"', ', "arguments": '),
            *('{"a": " }"}', '{"name": "switch"}', '"', "}", "{", "[", "]", ",", " ", "\n", "x", "\\", ":", "<"),
        ]
    ),
    max_size=14,
).map("".join)


@settings(max_examples=400)
@given(text=_FRAGMENTS, places=st.lists(st.integers(0, 200), max_size=30))
@pytest.mark.parametrize("new", [hermes, leading])
def test_cuts_do_not_matter(new: Callable[[], ToolParser], text: str, places: list[int]) -> None:
    assert parse(new(), cut(text, places)) == parse(new(), [text])


@given(text=st.text(max_size=40), places=st.lists(st.integers(0, 100), max_size=20))
@pytest.mark.parametrize("new", [hermes, leading])
def test_text_without_calls_is_text(new: Callable[[], ToolParser], text: str, places: list[int]) -> None:
    assert parse(new(), cut(text, places)) == (text, [])


@given(places=st.lists(st.integers(0, 200), max_size=20))
def test_no_part_of_a_mark_is_ever_shown(places: list[int]) -> None:
    written = 'Look: a<b.\n<tool_call>{"name": "weather", "arguments": {"x": 1}}</tool_call> Done.'
    parser = hermes()
    shown = ""
    for part in cut(written, places):
        shown += parser.feed(part).text
        assert "Look: a<b.\nDone.".startswith(shown)


def test_arguments_come_while_they_are_written() -> None:
    parser = hermes()
    written = '<tool_call>{"name": "weather", "arguments": {"city": "Paris", "days": [1, 2]}}</tool_call>'
    pieces = [delta.arguments for letter in written for delta in parser.feed(letter).calls]
    assert len(pieces) > 20
    assert json.loads("".join(pieces)) == {"city": "Paris", "days": [1, 2]}


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"arguments": {"x": 1}, "name": "weather"}', '{"x": 1}'),
        ('{"name": "weather"}', "{}"),
        ('{"name": "weather", "arguments": "{\\"x\\": \\"a\\\\nb\\"}"}', '{"x": "a\\nb"}'),
        ('{"type": "function", "name": "weather", "parameters": {"name": "other"}}', '{"name": "other"}'),
    ],
)
def test_forms_of_one_call(written: str, arguments: str) -> None:
    for new in (hermes, leading):
        marked = f"<tool_call>{written}</tool_call>" if new is hermes else written
        for parts in ([marked], list(marked)):
            assert parse(new(), parts) == ("", [("id1", "weather", arguments)])


def test_json_that_is_an_answer_is_text() -> None:
    for written in ('{"name": "Alice", "age": 3}', '{"weather": {"name": "weather"}}', "[1, 2]", "{ not JSON"):
        assert parse(leading(), list(written)) == (written, [])


def test_a_call_that_is_cut_off_stays_so() -> None:
    broken = '<tool_call>{"name": "weather", "arguments": {"ci </tool_call>", </tool_call> and <tool_call>x</tool_call>'
    for parts in ([broken], list(broken)):
        assert parse(hermes(), parts) == ("and x", [("id1", "weather", '{"ci </tool_call>",')])
    assert parse(hermes(), ['<tool_call>{"name": "weather", "arguments": {"ci']) == ("", [("id1", "weather", '{"ci')])
    assert parse(hermes(), ["Hi <tool_"]) == ("Hi <tool_", [])


def _options(*tools: Tool, **options: Any) -> ToolOptions:
    return ToolOptions(tools, **options)


def test_the_form_of_calls() -> None:
    point = {
        "type": "object",
        "properties": {"p": {"$ref": "#/$defs/P"}},
        "$defs": {"P": {"$ref": "#/$defs/Q"}, "Q": {}},
    }
    tools = (Tool("a", parameters=json.dumps(point)), Tool("b", parameters=json.dumps(point)))
    schema = calls_schema(_options(*tools))
    assert schema["type"] == "array"
    assert set(schema["$defs"]) == {"tool0.P", "tool0.Q", "tool1.P", "tool1.Q"}
    assert schema["$defs"]["tool1.P"] == {"$ref": "#/$defs/tool1.Q"}
    first = schema["items"]["anyOf"][0]["properties"]
    assert first["name"] == {"enum": ["a"]}
    assert first["arguments"]["properties"]["p"] == {"$ref": "#/$defs/tool0.P"}
    assert calls_schema(_options(*tools, function="b"))["properties"]["name"] == {"enum": ["b"]}


def _guide(asked: ResponseFormat | None, tools: ToolOptions | None, **options: Any) -> Any:
    known: dict[str, Any] = {"model": "m", "grammars": False, "backend": "llguidance"}
    return guide_of(asked, tools, **(known | options))


def test_what_an_answer_is_held_to() -> None:
    tool = Tool("a")
    form = ResponseFormat(ResponseForm.JSON_SCHEMA, '{"type": "integer"}')
    assert _guide(None, None) is None
    assert _guide(None, _options(tool)) is None
    assert json.loads(_guide(form, None)["json"]) == {"type": "integer"}
    must = _guide(None, _options(tool, mode=ToolMode.REQUIRED))
    assert json.loads(must["json"])["items"]["properties"]["name"] == {"enum": ["a"]}
    either = json.loads(_guide(form, _options(tool))["json"])
    assert either["anyOf"][0] == {"type": "integer"}
    assert _guide(ResponseFormat(ResponseForm.GRAMMAR, 'root ::= "x"'), None, grammars=True) == {
        "grammar": 'root ::= "x"'
    }


@pytest.mark.parametrize(
    ("asked", "tools", "options", "reason"),
    [
        (ResponseFormat(ResponseForm.JSON_SCHEMA, "nope"), None, {}, Reason.INVALID_FIELD),
        (ResponseFormat(ResponseForm.JSON_SCHEMA, "[]"), None, {}, Reason.INVALID_FIELD),
        (ResponseFormat(ResponseForm.JSON_SCHEMA, '{"a":' * 101 + "1" + "}" * 101), None, {}, Reason.INVALID_FIELD),
        (ResponseFormat(ResponseForm.GRAMMAR, 'root ::= "x"'), None, {}, Reason.UNSUPPORTED_RESPONSE_FORMAT),
        (ResponseFormat(ResponseForm.GRAMMAR, " "), None, {"grammars": True}, Reason.INVALID_FIELD),
        (ResponseFormat(ResponseForm.JSON_OBJECT), None, {"backend": None}, Reason.UNSUPPORTED_RESPONSE_FORMAT),
        (None, _options(Tool("a", parameters="nope"), mode=ToolMode.REQUIRED), {}, Reason.INVALID_FIELD),
    ],
)
def test_forms_that_are_refused(
    asked: ResponseFormat | None, tools: ToolOptions | None, options: dict[str, Any], reason: Reason
) -> None:
    with pytest.raises(DomainError) as refused:
        _guide(asked, tools, **options)
    assert refused.value.reason is reason
