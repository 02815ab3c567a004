"""What OpenAI's SDK can ask of an answer beside its text: several of them, tools, forms, log-probabilities."""

from __future__ import annotations

import json
import math
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from tests.e2e.conftest import Sdk

REAL, SYNTHETIC = "smollm2-135m", "synthetic-fast"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say hello."}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
models = pytest.mark.parametrize("model", [REAL, SYNTHETIC])


class Person(BaseModel):
    name: str
    age: int


def test_several_answers(sdk: Sdk) -> None:
    done = sdk().chat.completions.create(
        model=REAL, messages=[{"role": "user", "content": "Tell a story."}], n=3, max_tokens=16, seed=3, temperature=1.5
    )
    assert [choice.index for choice in done.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in done.choices]
    assert len(set(texts)) > 1, "each answer has a seed of its own"
    assert done.usage is not None
    assert 3 <= done.usage.completion_tokens <= 48


def test_several_answers_in_a_stream(sdk: Sdk) -> None:
    chunks = list(
        sdk().chat.completions.create(
            model=SYNTHETIC, messages=HELLO, n=2, max_tokens=12, stream=True, stream_options={"include_usage": True}
        )
    )
    for index in (0, 1):
        mine = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert mine[0].delta.role == "assistant"
        assert "".join(choice.delta.content or "" for choice in mine)
        assert [choice.finish_reason for choice in mine if choice.finish_reason] == ["length"]
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [24]


@models
@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_are_those_of_the_text(sdk: Sdk, model: str, stream: bool) -> None:
    if stream:
        chunks = list(
            sdk().chat.completions.create(
                model=model, messages=HELLO, max_tokens=12, logprobs=True, top_logprobs=3, stream=True
            )
        )
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        tokens = [
            token
            for chunk in chunks
            for choice in chunk.choices
            if choice.logprobs
            for token in choice.logprobs.content or ()
        ]
    else:
        [whole] = (
            sdk()
            .chat.completions.create(model=model, messages=HELLO, max_tokens=12, logprobs=True, top_logprobs=3)
            .choices
        )
        assert whole.logprobs is not None
        text, tokens = whole.message.content or "", whole.logprobs.content or []
    assert tokens
    assert text.encode().startswith(b"".join(bytes(token.bytes or ()) for token in tokens))
    assert all(token.logprob <= 0 and math.isfinite(token.logprob) for token in tokens)
    assert all(len(token.top_logprobs) == 3 for token in tokens)


@models
def test_an_answer_in_a_form(sdk: Sdk, model: str) -> None:
    asked: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Bob is 30 years old. Who is he?"}]
    done = sdk().chat.completions.parse(model=model, messages=asked, response_format=Person, max_tokens=100)
    assert isinstance(done.choices[0].message.parsed, Person)
    plain = sdk().chat.completions.create(
        model=model, messages=HELLO, response_format={"type": "json_object"}, max_tokens=200
    )
    if plain.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(plain.choices[0].message.content or ""), dict)


@models
def test_a_tool_is_called_and_its_result_answered(sdk: Sdk, model: str) -> None:
    client = sdk()
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    done = client.chat.completions.create(
        model=model, messages=messages, tools=[WEATHER], tool_choice="required", max_tokens=80
    )
    [choice] = done.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    calls = choice.message.tool_calls or []
    assert calls
    for call in calls:
        assert call.type == "function"
        assert call.function.name == "get_weather"
        assert isinstance(json.loads(call.function.arguments)["city"], str)
    messages.append(choice.message)
    messages += [{"role": "tool", "tool_call_id": call.id, "content": "12 degrees and rain"} for call in calls]
    answer = client.chat.completions.create(
        model=model, messages=messages, tools=[WEATHER], tool_choice="none", max_tokens=30
    )
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")


@models
def test_a_call_in_a_stream(sdk: Sdk, model: str) -> None:
    with sdk().chat.completions.stream(
        model=model,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        parallel_tool_calls=False,
        max_tokens=80,
    ) as stream:
        kinds = {event.type for event in stream}
        done = stream.get_final_completion()
    assert "tool_calls.function.arguments.done" in kinds
    assert done.choices[0].finish_reason == "tool_calls"
    [call] = done.choices[0].message.tool_calls or []
    assert isinstance(json.loads(call.function.arguments)["city"], str)


@pytest.mark.parametrize("where", ["description", "result"])
def test_what_is_said_of_and_by_tools_is_checked(sdk: Sdk, where: str) -> None:
    bad = "CHATMESH-TEST-BLOCK-7f3a"
    tool: Any = {"type": "function", "function": {"name": "f", "description": bad if where == "description" else "x"}}
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: list[Any] = [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": bad if where == "result" else "x"},
    ]
    with pytest.raises(openai.BadRequestError) as blocked:
        sdk().chat.completions.create(model=SYNTHETIC, messages=messages, tools=[tool])
    assert blocked.value.code == "content_policy_violation"


def test_a_token_that_is_favoured_is_all_that_is_written(sdk: Sdk) -> None:
    done = sdk().chat.completions.create(
        model=REAL, messages=HELLO, max_tokens=3, temperature=0, logprobs=True, logit_bias={"338": 100}
    )
    assert done.choices[0].logprobs is not None
    tokens = [token.token for token in done.choices[0].logprobs.content or ()]
    assert len(tokens) == 3
    assert len(set(tokens)) == 1


def test_penalties_are_followed(sdk: Sdk) -> None:
    asked: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Write the word tree ten times."}]

    def said(penalty: float) -> str:
        done = sdk().chat.completions.create(
            model=REAL,
            messages=asked,
            max_tokens=40,
            temperature=0,
            frequency_penalty=penalty,
            presence_penalty=penalty,
        )
        return done.choices[0].message.content or ""

    assert said(2.0) != said(0.0)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"audio": {"voice": "x", "format": "mp3"}}, "audio"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"n": 9}, "n"),
        ({"top_logprobs": 1}, "top_logprobs"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0.image_url",
        ),
        ({"messages": [*HELLO, {"role": "tool", "tool_call_id": "x", "content": "y"}]}, "messages.1.tool_call_id"),
        ({"model": "all-minilm-l6-v2"}, "model"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(sdk: Sdk, options: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        sdk().chat.completions.create(model=REAL, messages=HELLO, extra_body=options)
    assert refused.value.param == param


@pytest.mark.parametrize("stream", [False, True])
def test_the_route_is_told_in_a_header_and_in_the_body(sdk: Sdk, stream: bool) -> None:
    raw = sdk().chat.completions.with_raw_response.create(
        model="auto", messages=HELLO, max_tokens=4, extra_body={"stream": stream}
    )
    header = json.loads(raw.headers["x-chatmesh-route"])
    assert (header["requested_model"], header["model"], header["engine"]) == ("auto", REAL, "llama_cpp")
    last = raw.text.strip().split("\n\n")[-2].removeprefix("data: ") if stream else raw.text
    receipt = json.loads(last)["chatmesh"]["route"]
    assert receipt["replica_id"] == header["replica_id"]
    assert receipt["epochs"] == 1
    assert receipt["first_token_ms"] > 0
    assert stream or receipt == header
