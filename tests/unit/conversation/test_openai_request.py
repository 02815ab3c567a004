"""What OpenAI's clients send is understood; what we cannot do is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.conversation.chat_model import (
    ChatMessage,
    ResponseForm,
    ResponseFormat,
    Role,
    Tool,
    ToolCall,
    ToolMode,
    ToolOptions,
)
from services.conversation.convert import domain_error, error_summary
from services.conversation.openai_request import ChatCompletionRequest, in_openais_words, parse_chat_completion
from services.runtime.errors import DomainError, FieldViolation, Reason

HELLO = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
USER = {"role": "user", "content": "hello"}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it.", "parameters": {"type": "object"}, "strict": True},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}


def body(**changes: Any) -> bytes:
    return json.dumps({**HELLO, **changes}).encode()


def parse(**changes: Any) -> ChatCompletionRequest:
    return parse_chat_completion(body(**changes))


def test_messages_become_system_prompt_history_and_question() -> None:
    parsed = parse(
        messages=[
            {"role": "system", "content": "be brief"},
            {"role": "developer", "content": "no emoji"},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "hello", "refusal": None, "annotations": [], "tool_calls": None},
            {"role": "user", "content": [{"type": "text", "text": "who "}, {"type": "text", "text": "am I"}]},
        ],
        stream=True,
        stream_options={"include_usage": True},
        stop="\n",
        max_completion_tokens=5,
        temperature=0,
        seed=7,
    )
    asked = parsed.completion
    assert asked.system_prompt == "be brief\n\nno emoji"
    assert asked.history == (ChatMessage(Role.USER, "hi"), ChatMessage(Role.ASSISTANT, "hello"))
    assert asked.user_message == "who am I"
    assert not asked.ends_in_history
    assert asked.sampling.stop == ("\n",)
    assert (asked.sampling.max_tokens, asked.sampling.temperature, asked.sampling.seed) == (5, 0.0, 7)
    assert (asked.answers, asked.top_logprobs, asked.tools) == (1, None, None)
    assert parsed.stream
    assert parsed.include_usage


def test_parameters_at_their_neutral_value_pass() -> None:
    parsed = parse(
        n=1,
        logprobs=False,
        presence_penalty=0,
        frequency_penalty=0.0,
        logit_bias={},
        tools=None,
        tool_choice="auto",
        response_format={"type": "text"},
        store=False,
        service_tier="auto",
        modalities=["text"],
        metadata={"a": "b"},
        reasoning_effort=None,
    )
    assert parsed == parse()


def test_sampling() -> None:
    sampling = parse(
        presence_penalty=-1, frequency_penalty=1.5, logit_bias={"11": -100, "0": 2.5}, stop=["a", "b"], top_p=0.5
    ).completion.sampling
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.top_p) == (-1, 1.5, 0.5)
    assert sampling.logit_bias == ((11, -100), (0, 2.5))
    assert sampling.stop == ("a", "b")


def test_several_answers_and_log_probabilities() -> None:
    asked = parse(n=8, logprobs=True, top_logprobs=20).completion
    assert (asked.answers, asked.top_logprobs) == (8, 20)
    assert parse(logprobs=True).completion.top_logprobs == 0


def test_the_form_of_an_answer() -> None:
    assert parse(response_format={"type": "json_object"}).completion.sampling.response_format == ResponseFormat(
        ResponseForm.JSON_OBJECT
    )
    schema = {"type": "object", "properties": {"größe": {"type": "integer"}}}
    asked = parse(
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    )
    form = asked.completion.sampling.response_format
    assert form is not None
    assert form.form is ResponseForm.JSON_SCHEMA
    assert json.loads(form.text) == schema
    described = {"name": "x", "schema": schema, "description": "A person."}
    form = parse(response_format={"type": "json_schema", "json_schema": described}).completion.sampling.response_format
    assert form is not None
    assert json.loads(form.text) == {"description": "A person.", **schema}


def test_tools() -> None:
    tool = Tool("weather", "Tells it.", '{"type":"object"}', strict=True)
    assert parse(tools=[WEATHER]).completion.tools == ToolOptions((tool,))
    named = {"type": "function", "function": {"name": "weather"}}
    asked = parse(tools=[WEATHER], tool_choice=named, parallel_tool_calls=False).completion
    assert asked.tools == ToolOptions((tool,), ToolMode.REQUIRED, "weather", single_call=True)
    for choice, mode in (("none", ToolMode.NONE), ("required", ToolMode.REQUIRED), ("auto", ToolMode.AUTO)):
        asked = parse(tools=[WEATHER], tool_choice=choice).completion
        assert asked.tools == ToolOptions((tool,), mode)
    bare = {"type": "function", "function": {"name": "now"}}
    # Who says nothing of parameters has a function without any.
    nothing = '{"type":"object","properties":{},"additionalProperties":false}'
    assert parse(tools=[bare]).completion.tools == ToolOptions((Tool("now", parameters=nothing),))
    anything = {"type": "function", "function": {"name": "now", "parameters": {}}}
    assert parse(tools=[anything]).completion.tools == ToolOptions((Tool("now", parameters="{}"),))


def test_the_result_of_a_call_is_what_is_to_be_answered() -> None:
    asked = parse(messages=[{"role": "system", "content": "be brief"}, USER, CALLS, RESULT]).completion
    assert asked.system_prompt == "be brief"
    assert asked.ends_in_history
    assert asked.user_message == "rain"
    assert asked.history == (
        ChatMessage(Role.USER, "hello"),
        ChatMessage(Role.ASSISTANT, "", tool_calls=(ToolCall("call_1", "weather", '{"city": "Bonn"}'),)),
        ChatMessage(Role.TOOL, "rain", tool_call_id="call_1"),
    )
    # The model must know what a call is, also where it may make none.
    assert asked.tools == ToolOptions((), ToolMode.NONE)


def test_results_may_come_in_any_order_and_the_user_may_go_on() -> None:
    other = {**CALL, "id": "call_2"}
    calls = {**CALLS, "tool_calls": [CALL, other]}
    asked = parse(messages=[USER, calls, {**RESULT, "tool_call_id": "call_2"}, RESULT, USER]).completion
    assert not asked.ends_in_history
    assert [message.tool_call_id for message in asked.history] == ["", "", "call_2", "call_1"]


def test_a_speaker_with_a_name_keeps_it() -> None:
    asked = parse(messages=[{**USER, "name": "ann"}, {"role": "assistant", "content": "hi"}, {**USER, "name": "bob"}])
    assert [message.name for message in asked.completion.history] == ["ann", "", "bob"]
    assert asked.completion.ends_in_history


def test_a_list_that_is_too_long_is_not_called_a_text() -> None:
    with pytest.raises(DomainError, match="at most 4 items") as refused:
        parse(stop=list("abcde"))
    assert refused.value.metadata["param"] == "stop"


UNSUPPORTED = Reason.UNSUPPORTED_PARAMETER
INVALID = Reason.INVALID_BODY
FUNCTION: dict[str, Any] = {"name": "weather"}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


@pytest.mark.parametrize(
    ("changes", "param", "reason"),
    [
        ({"nonsense": 1}, "nonsense", UNSUPPORTED),
        ({"audio": {"voice": "x"}}, "audio", UNSUPPORTED),
        ({"functions": [FUNCTION]}, "functions", UNSUPPORTED),
        ({"function_call": "auto"}, "function_call", UNSUPPORTED),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction", UNSUPPORTED),
        ({"reasoning_effort": "high"}, "reasoning_effort", UNSUPPORTED),
        ({"web_search_options": {}}, "web_search_options", UNSUPPORTED),
        ({"store": True}, "store", UNSUPPORTED),
        ({"modalities": ["text", "audio"]}, "modalities", UNSUPPORTED),
        ({"service_tier": "flex"}, "service_tier", UNSUPPORTED),
        ({"verbosity": "low"}, "verbosity", UNSUPPORTED),
        ({"messages": [{**USER, "feeling": "good"}]}, "messages.0.feeling", UNSUPPORTED),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages.0.content.0.image_url", UNSUPPORTED),
        (
            {"messages": [USER, {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "input_audio"}]}]},
            "messages.1.content.1.input_audio",
            UNSUPPORTED,
        ),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages.0.role", UNSUPPORTED),
        (
            {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": ""}}, USER]},
            "messages.0.function_call",
            UNSUPPORTED,
        ),
        (
            {"messages": [USER, {**CALLS, "tool_calls": [{"id": "a", "type": "custom"}]}, RESULT]},
            "messages.1.tool_calls.0.type",
            UNSUPPORTED,
        ),
        ({"tools": [WEATHER, {"type": "custom", "custom": {}}]}, "tools.1.type", UNSUPPORTED),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type", UNSUPPORTED),
        ({"tools": [{**WEATHER, "function": {**FUNCTION, "x": 1}}]}, "tools.0.function.x", UNSUPPORTED),
        (
            {"stream": True, "stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
            UNSUPPORTED,
        ),
        ({"n": 9}, "n", INVALID),
        ({"n": 0}, "n", INVALID),
        ({"n": "2"}, "n", INVALID),
        ({"n": True}, "n", INVALID),
        ({"temperature": 3}, "temperature", INVALID),
        ({"temperature": "0"}, "temperature", INVALID),
        ({"max_tokens": 0}, "max_tokens", INVALID),
        ({"presence_penalty": 2.1}, "presence_penalty", INVALID),
        ({"frequency_penalty": -3}, "frequency_penalty", INVALID),
        ({"logit_bias": {"a": 1}}, "logit_bias.a", INVALID),
        ({"logit_bias": {"9999999999": 1}}, "logit_bias.9999999999", INVALID),
        ({"logit_bias": {"5": 101}}, "logit_bias.5", INVALID),
        ({"top_logprobs": 2}, "top_logprobs", INVALID),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", INVALID),
        ({"stream_options": {"include_usage": True}}, "stream_options", INVALID),
        ({"response_format": {"type": "yaml"}}, "response_format.type", INVALID),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", INVALID),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
            INVALID,
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
            "response_format.json_schema.name",
            INVALID,
        ),
        ({"tools": [{"type": "function"}]}, "tools.0.function", INVALID),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name", INVALID),
        ({"tools": [WEATHER, WEATHER]}, "tools.1.function.name", INVALID),
        ({"tools": [WEATHER] * 129}, "tools", INVALID),
        ({"tool_choice": "required"}, "tool_choice", INVALID),
        ({"tools": [WEATHER], "tool_choice": "sometimes"}, "tool_choice", INVALID),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "other"}}},
            "tool_choice.function.name",
            INVALID,
        ),
        ({"messages": []}, "messages", INVALID),
        ({"messages": "hello"}, "messages", INVALID),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role", INVALID),
        ({"messages": [{"content": "x"}]}, "messages.0.role", INVALID),
        ({"messages": [{"role": "user"}]}, "messages.0.content", INVALID),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content", INVALID),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text", INVALID),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages.0.role", INVALID),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role", INVALID),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages.0.content", INVALID),
        ({"messages": [{**USER, "name": "a b"}]}, "messages.0.name", INVALID),
        ({"messages": [{"role": "assistant"}, USER]}, "messages.0.content", INVALID),
        ({"messages": [USER, RESULT]}, "messages.1.tool_call_id", INVALID),
        ({"messages": [USER, CALLS, {**RESULT, "tool_call_id": "x"}]}, "messages.2.tool_call_id", INVALID),
        ({"messages": [USER, CALLS, RESULT, RESULT]}, "messages.3.tool_call_id", INVALID),
        ({"messages": [USER, CALLS, USER]}, "messages.1.tool_calls.0.id", INVALID),
        ({"messages": [USER, {**CALLS, "tool_calls": [CALL, CALL]}, RESULT]}, "messages.1.tool_calls.1.id", INVALID),
        ({"messages": [{"role": "user", "content": "a\0b"}]}, "messages.0.content", INVALID),
        ({"model": ""}, "model", INVALID),
        ({"model": None}, "model", INVALID),
        ({"stop": ["a"] * 5}, "stop", INVALID),
        ({"stop": [""]}, "stop.0", INVALID),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(changes: dict[str, Any], param: str, reason: Reason) -> None:
    with pytest.raises(DomainError) as refused:
        parse(**changes)
    assert refused.value.metadata["param"] == param, refused.value.message
    assert refused.value.reason is reason


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'"text"', b'{"temperature": NaN}'])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(DomainError) as refused:
        parse_chat_completion(data)
    assert refused.value.reason is Reason.INVALID_BODY


@pytest.mark.parametrize(
    ("changes", "capability", "param"),
    [
        ({"tools": [WEATHER]}, "tools", "tools"),
        ({"messages": [USER, CALLS, RESULT]}, "tools", "messages"),
        ({"response_format": {"type": "json_object"}}, "json", "response_format"),
        ({"logprobs": True}, "logprobs", "logprobs"),
        ({"logit_bias": {"1": 1}}, "logit_bias", "logit_bias"),
        ({"presence_penalty": 1}, "penalties", "presence_penalty"),
        ({"frequency_penalty": 1}, "penalties", "frequency_penalty"),
        ({}, "chat", "model"),
    ],
)
def test_what_the_model_cannot_do_is_refused_by_the_name_of_the_parameter(
    changes: dict[str, Any], capability: str, param: str
) -> None:
    error = DomainError(Reason.UNSUPPORTED_CAPABILITY, "no", metadata={"model": "small", "capability": capability})
    said = in_openais_words(error, parse(**changes).completion)
    assert (said.reason, said.metadata["param"]) == (Reason.UNSUPPORTED_PARAMETER, param)
    assert "small" in said.message
    other = DomainError(Reason.NO_REPLICA, "none")
    assert in_openais_words(other, parse().completion) is other


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("sampling.response_format", "response_format"),
        ("sampling.logit_bias", "logit_bias"),
        ("tools.parameters", "tools"),
        ("tools.function", "tool_choice"),
        ("messages.role", "messages"),
    ],
)
def test_what_an_engine_refuses_has_the_parameters_name(field: str, param: str) -> None:
    error = DomainError(Reason.INVALID_FIELD, "Not so.", fields=[FieldViolation(field, "must be otherwise")])
    for came in (error, domain_error(error_summary(error))):
        said = in_openais_words(came, parse().completion)
        assert (said.reason, said.message, said.metadata["param"]) == (Reason.INVALID_BODY, "Not so.", param)
    unknown = DomainError(Reason.INVALID_FIELD, "Not so.", fields=[FieldViolation("ticket", "is none")])
    assert in_openais_words(unknown, parse().completion) is unknown
