"""Engine `openai` against a server whose every byte the test knows, and against a real one that is killed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from services.inference.conformance.answer import Answer
from services.inference.conformance.subject import Subject
from services.inference.engines.openai.engine import OpenAIEngine
from services.inference.model import (
    Capability,
    FinishReason,
    GeneratedPiece,
    Message,
    ResponseForm,
    ResponseFormat,
    Role,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolMode,
    ToolOptions,
)
from services.runtime.errors import DomainError, Reason
from services.runtime.model_registry import ModelEntry
from services.runtime.settings import SettingsError
from tests.conformance.llama_http import KEY, NAME, LlamaHttp
from tests.rpc.inference.openai_double import (
    MODEL,
    Connection,
    OpenAIDouble,
    answers,
    event,
    last,
    replies,
    text,
    usage,
)

SECRET = "sk-very-secret-0123456789"
VARIABLE = "TEST_OPENAI_DOUBLE_KEY"
HELLO = (text("Hel"), text("lo"), text("", finish="stop"), last(11, 3, 4))
WEATHER = Tool("get_weather", "The weather.", '{"type": "object", "properties": {"city": {"type": "string"}}}')

StartEngine = Callable[..., Any]


@pytest.fixture
async def server() -> AsyncIterator[OpenAIDouble]:
    async with OpenAIDouble() as double:
        yield double


@pytest.fixture
async def begin(
    server: OpenAIDouble, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[StartEngine]:
    """Start an engine on the server. No log may hold the key or what was asked."""
    caplog.set_level(logging.DEBUG, logger="services")
    monkeypatch.setenv(VARIABLE, SECRET)
    engines: list[OpenAIEngine] = []

    async def start(*, capabilities: list[str] | None = None, **options: Any) -> Subject:
        entry = _entry(f"{server.address}/v1", capabilities=capabilities, **{"api_key_env": VARIABLE, **options})
        engine = OpenAIEngine(entry)
        engines.append(engine)
        await engine.start()
        return Subject(engine=engine, entry=entry, patience_s=10)

    yield start
    for engine in engines:
        await engine.close()
    for record in caplog.records:
        said = f"{record.getMessage()} {record.__dict__}"
        assert SECRET not in said
        assert "capital of France" not in said


def _entry(base_url: str, *, capabilities: list[str] | None = None, **options: Any) -> ModelEntry:
    return ModelEntry.model_validate(
        {
            "name": "far-model",
            "engine": "openai",
            "context_length": 1000,
            "max_output_tokens": 200,
            "slots": 2,
            "capabilities": capabilities,
            "engine_options": {"base_url": base_url, "model": MODEL, **options},
        }
    )


async def _error(subject: Subject, **options: Any) -> DomainError:
    answer = await subject.ask(**options)
    assert answer.end.finish_reason is FinishReason.ERROR
    assert answer.end.error is not None
    assert SECRET not in str(answer.end.error.__dict__)
    return answer.end.error


async def test_an_answer_and_what_it_took(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin(headers={"x-team": "mesh"}, extra_body={"top_k": 5, "temperature": 9})
    server.expect(answers(*HELLO))
    answer = await subject.ask(temperature=0.5, max_tokens=7, seed=-1, stop=("END",), traceparent="00-ab-cd-01")
    assert answer.text == "Hello"
    assert answer.end.finish_reason is FinishReason.STOP
    assert (answer.end.usage.prompt_tokens, answer.end.usage.cached_tokens) == (11, 4)
    # Two chunks, and a third token that no chunk spoke of.
    assert answer.end.usage.completion_tokens == answer.tokens == 3
    asked = server.asked[-1]
    assert asked.headers["authorization"] == f"Bearer {SECRET}"
    assert asked.headers["x-team"] == "mesh"
    assert asked.headers["traceparent"] == "00-ab-cd-01"
    assert asked.body == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 7,
        "temperature": 0.5,
        "top_k": 5,
        "seed": 2**32 - 2,
        "stop": ["END"],
    }


async def test_events_in_any_pieces(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()
    said = b": ping\r\n\r\n" + b"".join(event(chunk) for chunk in (text("naïve 😀"), *HELLO))

    async def byte_by_byte(connection: Connection) -> None:
        await connection.head()
        for at in range(len(said)):
            await connection.bytes(said[at : at + 1])
        await connection.done()

    server.expect(byte_by_byte)
    server.expect(answers(text("naïve 😀"), *HELLO))
    in_pieces, at_once = await subject.ask(), await subject.ask()
    assert in_pieces.text == at_once.text == "naïve 😀Hello"
    # What arrived together is told together.
    assert len(at_once.deltas) <= 2


async def test_counts_of_each_chunk_are_taken_where_they_come(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin(chunk_counts="vllm")
    server.expect(
        answers(
            text("", usage=usage(11, 0)),
            text("Hel", usage=usage(11, 3)),
            text("", usage=usage(11, 5)),
            text("lo", usage=usage(11, 6)),
            text("", finish="length", usage=usage(11, 7)),
            last(11, 7),
        )
    )
    answer = await subject.ask()
    assert server.bodies()[0]["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert answer.end.finish_reason is FinishReason.LENGTH
    assert answer.tokens == answer.end.usage.completion_tokens == 7
    assert answer.text == "Hello"


async def test_a_server_that_never_counts(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin(bytes_per_token=3)
    server.expect(answers(text("a"), text("b", finish="stop")))
    answer = await subject.ask()
    assert answer.tokens == answer.end.usage.completion_tokens == 2
    # 30 bytes, and the template.
    assert answer.end.usage.prompt_tokens == 10 + 8


async def test_a_stop_string_that_the_server_passes_over(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()
    hung_up = asyncio.Event()

    async def go_on(connection: Connection) -> None:
        await connection.head()
        for part in ("one ", "E", "N", "D two"):
            await connection.events(text(part))
        await connection.gone()
        hung_up.set()

    server.expect(go_on)
    answer = await subject.ask(stop=("END",))
    assert answer.text == "one "
    assert answer.end.finish_reason is FinishReason.STOP
    assert answer.tokens == 4
    await asyncio.wait_for(hung_up.wait(), 5)


async def test_cancel_ends_at_once_and_hangs_up(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()
    hung_up = asyncio.Event()

    async def go_on(connection: Connection) -> None:
        await connection.head()
        await connection.events(text("one"))
        await connection.gone()
        hung_up.set()

    server.expect(go_on)
    answer = subject.start()
    await answer.until(lambda a: a.tokens > 0, patience_s=5)
    subject.engine.cancel(answer.request.key)
    assert answer.end.finish_reason is FinishReason.CANCELLED
    assert answer.end.usage.completion_tokens == 1
    await asyncio.wait_for(hung_up.wait(), 5)
    answer.raise_complaints()


async def test_cancelled_answers_leave_their_connections_to_others(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()

    asked = asyncio.Event()

    async def silent(connection: Connection) -> None:
        asked.set()
        await connection.gone()

    # More than the pool has.
    for _ in range(30):
        server.expect(silent)
        answer = subject.start()
        await asyncio.wait_for(asked.wait(), 5)
        asked.clear()
        subject.engine.cancel(answer.request.key)
    server.expect(answers(*HELLO))
    assert (await subject.ask()).text == "Hello"


async def test_calls_of_tools(server: OpenAIDouble, begin: StartEngine) -> None:
    def calls(*said: dict[str, Any]) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"tool_calls": list(said)}, "finish_reason": None}]}

    chunks = (
        text("I look. "),
        calls({"index": 0, "id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": ""}}),
        calls({"index": 0, "function": {"arguments": '{"city":'}}),
        calls({"index": 0, "function": {"arguments": ' "Paris"}'}}),
        calls({"index": 1, "id": "c2", "function": {"name": "get_weather", "arguments": "{}"}}),
        text("", finish="tool_calls"),
        last(20, 30),
    )
    subject = await begin()
    server.expect(answers(*chunks))
    answer = await subject.ask(tools=ToolOptions((WEATHER,), ToolMode.REQUIRED))
    assert answer.end.finish_reason is FinishReason.TOOL_CALLS
    assert answer.text == "I look. "
    assert answer.tokens == answer.end.usage.completion_tokens == 30
    assert [call for delta in answer.deltas for call in delta.tool_calls] == [
        ToolCallDelta(0, "c1", "get_weather", ""),
        ToolCallDelta(0, arguments='{"city":'),
        ToolCallDelta(0, arguments=' "Paris"}'),
        ToolCallDelta(1, "c2", "get_weather", "{}"),
    ]
    body = server.bodies()[0]
    assert body["tool_choice"] == "required"
    assert body["tools"][0]["function"] == {
        "name": "get_weather",
        "description": "The weather.",
        "parameters": json.loads(WEATHER.parameters),
    }
    # One that makes two calls though it may make one, and calls a named function's end a stop.
    server.expect(answers(*chunks[:-2], text("", finish="stop"), last(20, 30)))
    single = await subject.ask(tools=ToolOptions((WEATHER,), function="get_weather", single_call=True))
    assert single.end.finish_reason is FinishReason.TOOL_CALLS
    assert {call.index for delta in single.deltas for call in delta.tool_calls} == {0}
    body = server.bodies()[1]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "get_weather"}}
    assert body["parallel_tool_calls"] is False


async def test_messages_of_calls_and_results(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()
    server.expect(answers(*HELLO))
    messages = (
        Message(Role.USER, "Weather?"),
        Message(Role.ASSISTANT, "", tool_calls=(ToolCall("c1", "get_weather", "{}"),)),
        Message(Role.TOOL, "sunny", tool_call_id="c1", name="get_weather"),
    )
    await subject.ask(messages)
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    assert server.bodies()[0]["messages"][1:] == [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
    ]


async def test_log_probabilities_stay_with_their_tokens(server: OpenAIDouble, begin: StartEngine) -> None:
    def said(token: str, logprob: float) -> dict[str, Any]:
        top = [{"token": "z", "logprob": -9.0, "bytes": None}, {"token": token, "logprob": logprob}]
        entry = {"token": token, "logprob": logprob, "bytes": list(token.encode()), "top_logprobs": top}
        choice = {"index": 0, "delta": {"content": token}, "logprobs": {"content": [entry]}, "finish_reason": None}
        return {"choices": [choice]}

    subject = await begin()
    server.expect(answers(said("E", -1.0), said("N", -2.0), said("!", -3.0), text("", finish="stop"), last(9, 4)))
    answer = await subject.ask(top_logprobs=1, confidence=True, stop=("END",))
    assert server.bodies()[0]["top_logprobs"] == 1
    # The token that ended the answer is taken to be as likely as the others.
    assert [logprob.logprob for logprob in answer.logprobs] == [-1.0, -2.0, -3.0, -2.0]
    assert [logprob.token for logprob in answer.logprobs] == ["E", "N", "!", ""]
    assert [[top.token for top in logprob.top] for logprob in answer.logprobs[:3]] == [["E"], ["N"], ["!"]]
    assert sum(delta.logprob_sum or 0 for delta in answer.deltas) == pytest.approx(-8.0)


async def test_thoughts_are_counted_and_not_shown(server: OpenAIDouble, begin: StartEngine) -> None:
    def thought(content: str) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"reasoning_content": content}, "finish_reason": None}]}

    subject = await begin()
    server.expect(answers(thought("hm"), thought(" well"), text("Yes."), text("", finish="stop"), last(9, 5)))
    answer = await subject.ask()
    assert answer.text == "Yes."
    assert answer.tokens == 5


async def test_an_answer_that_is_continued(server: OpenAIDouble, begin: StartEngine) -> None:
    pieces = (GeneratedPiece("The cap"), GeneratedPiece("ital"))
    subject = await begin(continuation="prefill", bytes_per_token=1)
    server.expect(answers(*HELLO))
    await subject.ask(continuation=pieces)
    body = server.bodies()[0]
    assert body["messages"][-1] == {"role": "assistant", "content": "The capital"}
    assert body["add_generation_prompt"] is False
    assert body["continue_final_message"] is True
    assert body["max_tokens"] == 200 - 11
    other = await begin()
    error = await _error(other, continuation=pieces)
    assert error.reason is Reason.UNSUPPORTED_RESPONSE_FORMAT


async def test_a_prompt_that_does_not_fit(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()
    server.expect(replies(400, {"error": {"code": "context_length_exceeded", "message": "resulted in 5000 tokens."}}))
    error = await _error(subject)
    assert error.reason is Reason.CONTEXT_LENGTH_EXCEEDED
    assert error.metadata == {"model": "far-model", "context_length": "1000", "prompt_tokens": "5000"}


async def test_a_prompt_that_fits_but_not_with_the_longest_answer(server: OpenAIDouble, begin: StartEngine) -> None:
    said = (
        "This model's maximum context length is 1000 tokens. However, you requested 1100 tokens "
        "(900 in the messages, 200 in the completion). Please reduce the length of the messages or completion."
    )
    subject = await begin()
    server.expect(replies(400, {"object": "error", "message": said, "type": "BadRequestError", "code": 400}))

    async def endless(connection: Connection) -> None:
        await connection.head()
        await connection.events(*[text("word ")] * 5)
        await connection.gone()

    server.expect(endless)
    answer = await subject.ask(max_tokens=3)
    assert [body.get("max_tokens") for body in server.bodies()] == [3, None]
    assert answer.end.finish_reason is FinishReason.LENGTH
    assert answer.tokens == 3
    # One that does not fit after all.
    server.expect(replies(400, {"error": {"message": said}}))
    server.expect(replies(400, {"error": {"message": said.replace("900", "1200")}}))
    error = await _error(subject)
    assert error.reason is Reason.CONTEXT_LENGTH_EXCEEDED
    assert error.metadata["prompt_tokens"] == "1200"


async def test_refused_parameters(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()
    leak = f"What is the capital of France? {SECRET}"
    server.expect(replies(400, {"error": {"message": leak, "param": "logit_bias"}}))
    error = await _error(subject, logit_bias=((1, 5.0),))
    assert error.reason is Reason.UNSUPPORTED_PARAMETER
    assert error.metadata == {"param": "logit_bias"}
    server.expect(replies(422, {"detail": [{"loc": ["body", "temperature"], "msg": leak}]}))
    error = await _error(subject)
    assert error.metadata == {"param": "temperature"}
    form = ResponseFormat(ResponseForm.JSON_SCHEMA, '{"type": "nonsense"}')
    server.expect(replies(400, {"error": {"message": leak}}))
    error = await _error(subject, response_format=form)
    assert error.reason is Reason.INVALID_FIELD
    assert [field.field for field in error.fields] == ["sampling.response_format"]
    server.expect(replies(400, {"error": {"message": leak, "param": leak}}))
    error = await _error(subject)
    assert error.reason is Reason.INVALID_FIELD
    assert "France" not in str(error.__dict__)


async def test_a_server_that_has_no_time(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()
    for headers, wait in (
        ({"retry_after": "7"}, 7.0),
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25),
        ({"retry_after": "soon"}, 1.0),
        ({}, 1.0),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry_after": "nan"}, 1.0),
    ):
        server.expect(replies(429, {"error": {"code": "rate_limit_exceeded"}}, **headers))
        error = await _error(subject)
        assert error.reason is Reason.OVERLOADED
        assert error.retry_after_s == wait
    server.expect(replies(429, {"error": {"code": "insufficient_quota"}}))
    assert (await _error(subject)).reason is Reason.ENGINE_FAILED


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 500, 503])
async def test_a_server_that_refuses(server: OpenAIDouble, begin: StartEngine, status: int) -> None:
    subject = await begin()
    headers = {"location": f"{server.address}/elsewhere"} if status < 400 else {}
    server.expect(replies(status, {"error": {"message": f"Incorrect API key provided: {SECRET}"}}, **headers))
    error = await _error(subject)
    assert error.reason is Reason.ENGINE_FAILED
    # The redirect was not followed: the key stays where it belongs.
    assert server.asked[-1].path == "/v1/chat/completions"


GARBAGE = {
    "no JSON": b"data: {nonsense\n\n",
    "no object": b"data: [1]\n\n",
    "no text": b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
    "no choices": b'data: {"choices": 7}\n\n',
    "no counts": b'data: {"usage": "many"}\n\n',
    "no name": b'data: {"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}\n\n',
    "no UTF-8": b'data: {"choices": "\xff\xfe"}\n\n',
    "an error": b'data: {"error": {"message": "CUDA out of memory", "code": 500}}\n\n',
    "llama.cpp's error": b'error: {"message": "x", "code": 500}\n\n',
    "deep": b"data: " + b"[" * 100_000 + b"\n\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_in_the_stream(server: OpenAIDouble, begin: StartEngine, garbage: bytes) -> None:
    subject = await begin()

    async def act(connection: Connection) -> None:
        await connection.head()
        await connection.events(text("good"))
        await connection.bytes(garbage)
        await connection.gone()

    server.expect(act)
    answer = await subject.ask()
    assert answer.text == "good"
    assert answer.end.error is not None
    assert answer.end.error.reason is Reason.ENGINE_FAILED
    server.expect(answers(*HELLO))
    assert (await subject.ask()).text == "Hello"


async def test_an_event_without_end(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()

    async def act(connection: Connection) -> None:
        await connection.head()
        for _ in range(6):
            await connection.bytes(b"data: " + b"x" * 2**20)
        await connection.gone()

    server.expect(act)
    assert (await _error(subject)).reason is Reason.ENGINE_FAILED


async def test_a_stream_that_breaks_off(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()

    async def cut(connection: Connection) -> None:
        await connection.head()
        await connection.events(text("good"))

    async def closed(connection: Connection) -> None:
        await connection.head()
        await connection.events(text("good"))
        await connection.raw(b"0\r\n\r\n")

    async def no_reply(connection: Connection) -> None:
        pass

    async def no_http(connection: Connection) -> None:
        await connection.raw(b"220 mail.example ESMTP\r\n")

    for act, said in ((cut, "good"), (closed, "good"), (no_reply, ""), (no_http, "")):
        server.expect(act)
        answer = await subject.ask()
        assert answer.text == said
        assert answer.end.error is not None
        assert answer.end.error.reason is Reason.ENGINE_FAILED
        assert answer.end.usage.completion_tokens == len(said) // 4


async def test_an_end_is_an_end_though_the_usage_was_lost(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()

    async def closed(connection: Connection) -> None:
        await connection.head()
        await connection.events(text("good"), text("", finish="stop"))
        await connection.raw(b"0\r\n\r\n")

    server.expect(closed)
    answer = await subject.ask()
    assert answer.end.finish_reason is FinishReason.STOP


async def test_a_server_that_stalls(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin(first_event_timeout_s=0.2, idle_timeout_s=0.2)

    async def before(connection: Connection) -> None:
        await connection.gone()

    async def after_the_head(connection: Connection) -> None:
        await connection.head()
        await connection.gone()

    async def after_a_word(connection: Connection) -> None:
        await connection.head()
        await connection.events(text("good"))
        await connection.gone()

    async def alive_but_idle(connection: Connection) -> None:
        await connection.head()
        await connection.events(text("good"))
        while True:
            await connection.bytes(b": ping\n\n")
            await asyncio.sleep(0.05)

    for act in (before, after_the_head, after_a_word, alive_but_idle):
        server.expect(act)
        error = await _error(subject)
        assert error.reason is Reason.ENGINE_FAILED
        assert "stopped answering" in error.message


async def test_an_answer_that_is_withheld(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()
    server.expect(answers(text("bad"), text("", finish="content_filter"), last(3, 1)))
    assert (await _error(subject)).reason is Reason.CONTENT_BLOCKED
    server.expect(answers(text("bad"), text("", finish="abort"), last(3, 1)))
    assert (await _error(subject)).reason is Reason.ENGINE_FAILED
    server.expect(replies(200, {"choices": []}))
    assert (await _error(subject)).reason is Reason.ENGINE_FAILED


async def test_capabilities_are_those_of_the_models_file(begin: StartEngine) -> None:
    assert Capability.TOOLS in (await begin()).capabilities
    fewer = await begin(capabilities=["chat", "json"])
    assert fewer.capabilities == {Capability.CHAT, Capability.JSON}
    embeds = await begin(embeddings=True)
    assert embeds.capabilities == {Capability.EMBEDDINGS}


async def test_confidence_is_not_asked_of_a_server_without_it(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin(capabilities=["chat"])
    server.expect(answers(*HELLO))
    answer = await subject.ask(confidence=True)
    assert "logprobs" not in server.bodies()[0]
    assert all(delta.logprob_sum is None for delta in answer.deltas)


async def test_the_start_waits_for_a_server_and_looks_for_the_model(server: OpenAIDouble, begin: StartEngine) -> None:
    server.expect(replies(503, {"error": {"message": "Loading model"}}), path="/v1/models")
    await begin()
    server.models = ["one", "two"]
    with pytest.raises(SettingsError, match="has no model model-there; it has one, two"):
        await begin()


@pytest.mark.parametrize("path", ["/v1/models", "/tokenize", "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("", "wants a key .HTTP 401.: set api_key_env in its engine_options"),
        (VARIABLE, f"does not accept the key of {VARIABLE}"),
    ],
)
async def test_a_server_that_wants_another_key(
    server: OpenAIDouble, begin: StartEngine, path: str, variable: str, said: str
) -> None:
    if path == "/v1/chat/completions":
        for _ in range(2):
            server.expect(replies(200, {"tokens": [7]}), path="/tokenize")
    server.expect(replies(401, {"error": {"message": SECRET}}), path=path)
    with pytest.raises(SettingsError, match=said) as caught:
        await begin(tokenizer="server", api_key_env=variable)
    assert "model far-model: its server" in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_a_server_that_wants_a_key_for_answers_only(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin(api_key_env="")
    server.expect(replies(401, {"error": {"message": SECRET}}))
    error = await _error(subject)
    assert error.reason is Reason.ENGINE_FAILED
    assert "wants a key" in error.message
    assert "set api_key_env" in error.message


async def test_a_continuation_without_text_is_none(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()
    server.expect(answers(*HELLO))
    assert (await subject.ask(continuation=(GeneratedPiece(""),))).text == "Hello"
    answer = await subject.ask(continuation=(GeneratedPiece("Hel"),))
    assert answer.end.finish_reason is FinishReason.ERROR


async def test_nobody_there() -> None:
    async with OpenAIDouble() as gone:
        address = gone.address
    engine = OpenAIEngine(_entry(f"{address}/v1", start_timeout_s=0))
    with pytest.raises(SettingsError, match="cannot be reached") as caught:
        await engine.start()
    assert f"It should be at {address.removeprefix('http://')}" in str(caught.value)
    await engine.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_url": "localhost:8000"}, "base_url"),
        ({"base_url": f"http://me:{SECRET}@host/v1"}, "api_key_env"),
        ({"base_url": f"http://host/v1?key={SECRET}"}, "base_url"),
        ({"api_key_env": "TEST_THERE_IS_NO_SUCH_KEY"}, "TEST_THERE_IS_NO_SUCH_KEY"),
        ({"api_key_env": "TEST_A_BAD_KEY"}, "is no key"),
        ({"headers": {"Authorization": SECRET}}, "api_key_env"),
        ({"headers": {"x": f"{SECRET}\r\ny: z"}}, "no header"),
        ({"extra_body": {"stream": False}}, "stream"),
        ({"apikey": SECRET}, "engine_options: apikey: there is no such key; is it misspelt.$"),
        ({"base_url": "ftp://host"}, "base_url: must begin with http:// or https:// and a host"),
    ],
)
def test_wrong_options(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], said: str) -> None:
    monkeypatch.setenv("TEST_A_BAD_KEY", f"{SECRET}\nx")
    with pytest.raises(SettingsError, match=said) as caught:
        OpenAIEngine(_entry(**{"base_url": "http://host/v1", **options}))
    assert SECRET not in str(caught.value)


async def test_a_check_is_cheap_and_notices(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()
    await subject.engine.check()
    asked = len(server.asked)
    await subject.engine.check()
    assert len(server.asked) == asked
    server.expect(replies(500, {}))
    await _error(subject)
    server.expect(replies(500, {}), path="/v1/models")
    with pytest.raises(DomainError) as caught:
        await subject.engine.check()
    assert caught.value.reason is Reason.ENGINE_FAILED
    await subject.engine.check()


async def test_the_estimate_of_tokens_is_rather_high(begin: StartEngine) -> None:
    subject = await begin()
    counts = await subject.engine.count_tokens(("", "Hello, how are you today?", "日本語"))
    # SmolLM2 has 7 and 5.
    assert counts.counts == (0, 10, 4)
    assert (counts.tokens_per_message, counts.tokens_per_prompt) == (8, 64)


async def test_a_server_that_does_not_count_tokens(server: OpenAIDouble, begin: StartEngine) -> None:
    server.expect(replies(404, {"detail": "Not Found"}), path="/tokenize")
    with pytest.raises(SettingsError, match="tokenizer: estimate"):
        await begin(tokenizer="server")


async def test_a_server_that_does_not_say_what_a_prompt_has(server: OpenAIDouble, begin: StartEngine) -> None:
    for _ in range(2):
        server.expect(replies(200, {"tokens": [7]}), path="/tokenize")
    server.expect(replies(200, {"choices": []}))
    with pytest.raises(SettingsError, match="tokenizer: estimate"):
        await begin(tokenizer="server")


async def test_embeddings(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin(embeddings=True)
    data = [{"index": 1, "embedding": [0.0, 2.0]}, {"index": 0, "embedding": [3.0, 4.0]}]
    server.expect(replies(200, {"data": data, "usage": {"prompt_tokens": 9}}), path="/v1/embeddings")
    embeddings = await subject.engine.embed(("a", "b"))
    assert embeddings.vectors == [[0.6, 0.8], [0.0, 1.0]]
    assert (embeddings.prompt_tokens, embeddings.truncated) == (9, 0)
    assert server.bodies("/v1/embeddings") == [{"model": MODEL, "input": ["a", "b"], "encoding_format": "float"}]


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        {"data": [{"index": 0, "embedding": [1.0]}] * 2},
        {"data": [{"index": 0, "embedding": [0.0, 0.0]}]},
        {"data": [{"index": 0, "embedding": ["x"]}]},
        {"data": [{"index": 0, "embedding": [float("nan")]}]},
    ],
)
async def test_what_are_no_embeddings(server: OpenAIDouble, begin: StartEngine, content: Any) -> None:
    subject = await begin(embeddings=True)
    server.expect(replies(200, content), path="/v1/embeddings")
    with pytest.raises(DomainError) as caught:
        await subject.engine.embed(("a",))
    assert caught.value.reason is Reason.ENGINE_FAILED


async def test_close_ends_everything(server: OpenAIDouble, begin: StartEngine) -> None:
    subject = await begin()

    asked = asyncio.Event()

    async def silent(connection: Connection) -> None:
        asked.set()
        await connection.gone()

    server.expect(silent)
    answer = subject.start()
    await asyncio.wait_for(asked.wait(), 5)
    await subject.engine.close()
    assert answer.end.finish_reason is FinishReason.CANCELLED


async def test_a_real_server_that_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    with LlamaHttp() as llama:
        entry = _entry(llama.base_url, api_key_env=VARIABLE, chunk_counts="llama_cpp").model_copy(
            update={"context_length": 768}
        )
        entry.engine_options["model"] = NAME
        engine = OpenAIEngine(entry)
        await engine.start()
        subject = Subject(engine=engine, entry=entry)
        running: list[Answer] = [subject.start(subject.long_prompt, seed=n) for n in range(2)]
        for answer in running:
            await answer.until(lambda a: a.tokens > 2, patience_s=30)
        llama.kill()
        for answer in running:
            await answer.finished(patience_s=10)
            assert answer.end.error is not None
            assert answer.end.error.reason is Reason.ENGINE_FAILED
            assert answer.end.usage.prompt_tokens > 10
        with pytest.raises(DomainError):
            await engine.check()
        assert (await _error(subject)).message == "The model's server cannot be reached."
        await engine.close()
