"""OpenAI's surface: several answers, log-probabilities and tools, with an engine and a checker in the test's hands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import grpc
import pytest

from chatmesh.inference.v1.generation_pb2 import GenerationStart
from chatmesh.inference.v1.status_pb2 import CAPABILITY_LOGPROBS, CAPABILITY_TOOLS
from chatmesh.moderation.v1 import moderation_service_pb2, verdict_pb2
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import DomainError, Reason
from tests.rpc.conversation.openai_calls import HELLO, Client, Completion, asks, thought
from tests.rpc.conversation.peers import PROMPT_TOKENS, assembled, granted
from tests.rpc.conversation.scripted import Held, eventually
from tests.rpc.conversation.stage import Stage
from tests.rpc.conversation.streams import block, clear, redact, words

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOOL_CALLS = chat_pb2.FINISH_REASON_TOOL_CALLS
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "call_0", "content": "rain"}


async def begin(stage: Stage, count: int = 1, **fields: Any) -> tuple[Completion, list[GenerationStart]]:
    """A streamed completion, and what the engine was told."""
    # Each answer has a place of its own.
    stage.prepare(route=(stage.to(stage.engine),) * count)
    completion = Client(stage.channel).complete(**{"stream": True, **fields})
    return completion, [await stage.engine.next_start() for _ in range(count)]


async def test_several_answers_have_one_preparation_and_one_usage(stage: Stage) -> None:
    completion, starts = await begin(stage, 3, n=3, seed=5, max_tokens=20, stream_options={"include_usage": True})
    assert sorted(start.sampling.seed for start in starts) == [5, 6, 7]
    assert len({start.generation_id for start in starts}) == 3
    by_index = sorted(starts, key=lambda start: start.sampling.seed)
    _, *others = stage.router.route.requests
    assert [(request.model, request.continues) for request in others] == [("small", True)] * 2
    # Its tokens for each answer.
    [asked] = [request.tokens for request in stage.usage.acquire.requests]
    assert 60 <= asked < 80
    for number, start in enumerate(by_index):
        stage.engine.say(words(start.generation_id, f"answer {number}"))
        await completion.shows(f"answer {number}", index=number)
    for number, start in enumerate(reversed(by_index)):
        stage.engine.finish(start.generation_id, " end" * (number + 1))
    await completion.ended()
    assert [completion.text(index) for index in range(3)] == [
        "answer 0 end end end",
        "answer 1 end end",
        "answer 2 end",
    ]
    assert all(completion.reasons(index) == ["stop"] for index in range(3))
    assert all(completion.of(index)[0]["delta"]["role"] == "assistant" for index in range(3))
    usage = completion.chunks[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (PROMPT_TOKENS, 2 * 3 + 1 + 2 + 3)
    record = await stage.usage.settled(by_index[0].generation_id)
    assert record.usage.prompt_tokens == PROMPT_TOKENS
    assert record.usage.completion_tokens == usage["completion_tokens"]
    assert len(stage.usage.ledger) == 1


async def test_the_content_filter_ends_one_answer_and_not_the_others(stage: Stage) -> None:
    stage.moderation.clears = False
    completion, starts = await begin(stage, 2, n=2, seed=1)
    first, second = (start.generation_id for start in sorted(starts, key=lambda start: start.sampling.seed))
    for id_ in (first, second):
        stage.engine.say(words(id_, "one two"))
        await stage.moderation.has(id_, "one two")
    stage.moderation.say(clear(first, 3, block(3, 7)))
    stage.moderation.say(clear(second, 7))
    await completion.shows("one two", index=1)
    stage.engine.finish(second, " three")
    await stage.moderation.has(second, "one two three", complete=True)
    stage.moderation.say(clear(second, 13, done=True))
    await completion.ended()
    assert completion.reasons(0) == ["content_filter"]
    assert "two" not in completion.text(0)
    assert completion.reasons(1) == ["stop"]
    assert completion.text(1) == "one two three"
    assert completion.done
    await stage.engine.was_cancelled(first)
    await stage.usage.settled(first)


async def test_a_client_that_leaves_stops_all_answers(stage: Stage) -> None:
    completion, starts = await begin(stage, 2, n=2)
    stage.engine.say(words(starts[0].generation_id, "one "))
    await completion.leave()
    for start in starts:
        await stage.engine.was_cancelled(start.generation_id)


async def test_one_answer_that_fails_fails_the_completion(stage: Stage) -> None:
    stage.prepare(route=(stage.to(stage.engine),) * 2)
    completion = Client(stage.channel).complete(n=2)
    starts = [await stage.engine.next_start() for _ in range(2)]
    wrong = DomainError(Reason.INVALID_FIELD, "This is nothing that an engine takes.")
    stage.engine.say(
        stage.engine.last(starts[1].generation_id, reason=chat_pb2.FINISH_REASON_ERROR, error=wrong),
    )
    assert (await completion.refusal()).reason is Reason.INVALID_FIELD
    await stage.engine.was_cancelled(starts[0].generation_id)


@pytest.mark.parametrize("answers", [1, 2])
async def test_a_stream_that_fails_before_it_begins_is_refused_by_its_status(stage: Stage, answers: int) -> None:
    """As one object would be: by status and hint clients know whether to try again."""
    completion, starts = await begin(stage, answers, n=answers)
    wrong = DomainError(Reason.INVALID_FIELD, "This is nothing that an engine takes.", retry_after_s=3.0)
    stage.engine.say(stage.engine.last(starts[0].generation_id, reason=chat_pb2.FINISH_REASON_ERROR, error=wrong))
    refusal = await completion.refusal()
    assert (refusal.reason, refusal.retry_after_s) == (Reason.INVALID_FIELD, 3.0)
    assert not completion.chunks
    for start in starts[1:]:
        await stage.engine.was_cancelled(start.generation_id)


async def test_a_stream_that_fails_later_says_so_in_the_stream(stage: Stage) -> None:
    completion, [start] = await begin(stage)
    stage.engine.say(words(start.generation_id, "one "))
    await completion.shows("one ")
    wrong = DomainError(Reason.INVALID_FIELD, "This is nothing that an engine takes.")
    stage.engine.say(stage.engine.last(start.generation_id, reason=chat_pb2.FINISH_REASON_ERROR, error=wrong))
    await completion.ended()
    assert completion.chunks[-1]["error"]["message"] == wrong.message
    assert completion.done


async def test_the_last_of_a_quota_is_shared_by_the_answers(stage: Stage) -> None:
    stage.prepare(acquire=granted(31), route=(stage.to(stage.engine),) * 3)
    completion = Client(stage.channel).complete(n=3, max_tokens=100)
    starts = [await stage.engine.next_start() for _ in range(3)]
    assert [start.sampling.max_tokens for start in starts] == [10, 10, 10]
    for start in starts:
        stage.engine.finish(start.generation_id, "short")
    await completion.ended()
    assert [choice["message"]["content"] for choice in completion.whole["choices"]] == ["short"] * 3


async def test_log_probabilities_do_not_go_ahead_of_the_text(stage: Stage) -> None:
    stage.moderation.clears = False
    completion, [start] = await begin(stage, logprobs=True, top_logprobs=1)
    assert start.top_logprobs == 1
    assert CAPABILITY_LOGPROBS in stage.router.route.requests[0].capabilities
    id_ = start.generation_id
    stage.engine.say(thought(id_, "my", " key", " is", " SEC", "RET", "!"))
    await stage.moderation.has(id_, "my key is SECRET!")
    stage.moderation.say(clear(id_, 8))
    await completion.shows("my key i")
    assert completion.tokens() == ["my", " key"]
    stage.engine.finish(id_)
    await stage.moderation.has(id_, "my key is SECRET!", complete=True)
    stage.moderation.say(clear(id_, 17, redact(10, 16), done=True))
    await completion.ended()
    assert completion.text() == "my key is [x]!"
    # The token that the replacement cuts is not there either.
    assert completion.tokens() == ["my", " key", " is", "!"]
    [first, *_] = completion.of(0)[0]["logprobs"]["content"]
    assert first == {
        "token": "my",
        "bytes": [109, 121],
        "logprob": -0.25,
        "top_logprobs": [{"token": "?", "bytes": [63], "logprob": -2.5}],
    }


async def test_log_probabilities_of_a_whole_answer(stage: Stage) -> None:
    stage.prepare()
    completion = Client(stage.channel).complete(logprobs=True)
    start = await stage.engine.next_start()
    assert start.top_logprobs == 0
    stage.engine.say(thought(start.generation_id, "one", " two"))
    stage.engine.finish(start.generation_id)
    [choice] = (await completion.ended()).whole["choices"]
    assert choice["message"]["content"] == "one two"
    assert [token["token"] for token in choice["logprobs"]["content"]] == ["one", " two"]


async def test_log_probabilities_go_on_with_another_engine(stage: Stage) -> None:
    completion, [start] = await begin(stage, logprobs=True)
    stage.engine.say(thought(start.generation_id, "one", " two"))
    await completion.shows("one two")
    stage.router.route.queue(stage.to(stage.other_engine))
    stage.engine.break_off(grpc.StatusCode.UNAVAILABLE)
    again = await stage.other_engine.next_start()
    assert again.HasField("top_logprobs")
    stage.other_engine.say(thought(again.generation_id, " three"))
    stage.other_engine.finish(again.generation_id)
    await completion.ended()
    assert completion.tokens() == ["one", " two", " three"]


async def test_calls_of_tools_are_shown_once_they_are_checked(stage: Stage) -> None:
    stage.moderation.clears = False
    completion, [start] = await begin(stage, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False)
    assert start.tools.mode == chat_pb2.TOOL_MODE_REQUIRED
    assert start.tools.single_call
    assert [tool.name for tool in start.tools.tools] == ["weather"]
    assert CAPABILITY_TOOLS in stage.router.route.requests[0].capabilities
    # What is said of tools is checked as all input is, and counted as part of the prompt.
    assert any("weather" in text for text in stage.moderation.check_input.requests[0].texts)
    assert "weather" in stage.context.assemble.requests[0].beside_messages
    id_ = start.generation_id
    for delta in asks(id_, '{"city"', ': "Bonn"}'):
        stage.engine.say(delta)
    stage.engine.say(*asks(id_, "{}", index=1, name="now"))
    stage.engine.finish(id_, reason=TOOL_CALLS)
    text = 'weather\n{"city": "Bonn"}\nnow\n{}\n'
    await stage.moderation.has(f"{id_}.tools", text, complete=True)
    assert completion.chunks == []
    stage.moderation.say(clear(f"{id_}.tools", len(text), done=True))
    await completion.ended()
    assert completion.reasons() == ["tool_calls"]
    assert completion.of(0)[0]["delta"]["role"] == "assistant"
    assert completion.of(0)[0]["delta"]["content"] is None
    assert completion.calls() == [
        {
            "index": 0,
            "id": "call_0",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Bonn"}'},
        },
        {"index": 1, "id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]


async def test_calls_in_a_whole_answer_stand_beside_its_text(stage: Stage) -> None:
    stage.prepare()
    completion = Client(stage.channel).complete(tools=[WEATHER])
    start = await stage.engine.next_start()
    stage.engine.say(words(start.generation_id, "Let me see."))
    stage.engine.say(*asks(start.generation_id, "{}"))
    stage.engine.finish(start.generation_id, reason=TOOL_CALLS)
    [choice] = (await completion.ended()).whole["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see."
    assert choice["message"]["tool_calls"] == [CALL]


@pytest.mark.parametrize(
    ("arguments", "gone", "shown"),
    [
        ('{"card": "4111-1111"}', "4111-1111", '{"card": "[x]"}'),
        # What was written in another way is checked as what it means.
        ('{"card": "\\u0034111-1111"}', "4111-1111", '{"card": "[x]"}'),
        # No JSON would be left.
        ('{"card": 41111111}', "41111111", None),
        ('{"card": "4111"', "4111", None),
        # Not even in the name of a function.
        ("{}", "weather", None),
    ],
)
async def test_what_is_replaced_in_arguments_leaves_json_or_ends_the_answer(
    stage: Stage, arguments: str, gone: str, shown: str | None
) -> None:
    stage.moderation.clears = False
    completion, [start] = await begin(stage, tools=[WEATHER])
    id_ = f"{start.generation_id}.tools"
    stage.engine.say(*asks(start.generation_id, arguments))
    stage.engine.finish(start.generation_id, reason=TOOL_CALLS)
    text = f"weather\n{json.dumps(json.loads(arguments)) if chr(92) in arguments else arguments}\n"
    await stage.moderation.has(id_, text, complete=True)
    at = text.index(gone)
    stage.moderation.say(clear(id_, len(text), redact(at, at + len(gone)), done=True))
    await completion.ended()
    assert completion.reasons() == ["content_filter" if shown is None else "tool_calls"]
    assert [call["function"]["arguments"] for call in completion.calls()] == ([] if shown is None else [shown])


async def test_a_blocked_call_is_not_shown(stage: Stage) -> None:
    stage.moderation.clears = False
    completion, [start] = await begin(stage, tools=[WEATHER])
    id_ = f"{start.generation_id}.tools"
    stage.engine.say(*asks(start.generation_id, '{"q": "bomb"}'))
    stage.engine.finish(start.generation_id, reason=TOOL_CALLS)
    await stage.moderation.has(id_, 'weather\n{"q": "bomb"}\n', complete=True)
    stage.moderation.say(clear(id_, 15, block(15, 19)))
    await completion.ended()
    assert completion.reasons() == ["content_filter"]
    assert completion.calls() == []


async def test_calls_are_asked_for_anew_by_another_engine(stage: Stage) -> None:
    completion, [start] = await begin(stage, tools=[WEATHER])
    stage.engine.say(words(start.generation_id, "Well: "))
    stage.engine.say(*asks(start.generation_id, '{"ci'))
    await completion.shows("Well: ")
    stage.router.route.queue(stage.to(stage.other_engine))
    stage.engine.break_off(grpc.StatusCode.UNAVAILABLE)
    again = await stage.other_engine.next_start()
    # No engine looks for calls from the middle on: it says all of it again, and that must be the same.
    assert not again.continuation
    assert again.tools == start.tools
    stage.other_engine.say(words(again.generation_id, "Well: "))
    stage.other_engine.say(*asks(again.generation_id, '{"city": "Bonn"}'))
    stage.other_engine.finish(again.generation_id, reason=TOOL_CALLS)
    await completion.ended()
    assert completion.text() == "Well: "
    assert [call["function"]["arguments"] for call in completion.calls()] == ['{"city": "Bonn"}']


async def test_the_check_of_calls_survives_the_checkers_stream(stage: Stage) -> None:
    stage.moderation.clears = False
    completion, [start] = await begin(stage, tools=[WEATHER])
    id_ = f"{start.generation_id}.tools"
    stage.engine.say(*asks(start.generation_id, "{}"))
    stage.engine.finish(start.generation_id, reason=TOOL_CALLS)
    await stage.moderation.has(id_, "weather\n{}\n", complete=True)
    life = stage.moderation.lives[-1]
    stage.moderation.break_off(grpc.StatusCode.UNAVAILABLE)
    await life.over.wait()
    await eventually(lambda: stage.moderation.lives[-1] is not life, "a new stream")
    await stage.moderation.has(id_, "weather\n{}\n", complete=True)
    stage.moderation.say(clear(id_, 11, done=True))
    await completion.ended()
    assert completion.reasons() == ["tool_calls"]


async def test_a_result_is_answered_where_it_stands(stage: Stage) -> None:
    stage.prepare(assemble=assembled("Hello"))
    messages: list[Mapping[str, Any]] = [*HELLO, {"role": "assistant", "tool_calls": [CALL]}, RESULT]
    completion = Client(stage.channel).complete(messages, tools=[WEATHER])
    start = await stage.engine.next_start()
    stage.engine.finish(start.generation_id, "It rains.")
    await completion.ended()
    opening = stage.context.assemble.requests[0]
    assert opening.user_message == ""
    newest = [entry.message for entry in opening.first_page.messages]
    assert [message.role for message in newest] == [chat_pb2.ROLE_TOOL, chat_pb2.ROLE_ASSISTANT, chat_pb2.ROLE_USER]
    assert (newest[0].content, newest[0].tool_call_id) == ("rain", "call_0")
    assert [(call.id, call.name, call.arguments) for call in newest[1].tool_calls] == [("call_0", "weather", "{}")]
    checked = list(stage.moderation.check_input.requests[0].texts)
    assert checked[-1] == "rain"
    assert checked.count("rain") == 1
    # How hard it is is judged by what the user says.
    assert stage.router.route.requests[0].prompt == "Hello"


async def test_what_is_redacted_in_a_result_stays_a_result(stage: Stage) -> None:
    prompt = assembled("Hello")
    prompt.messages.add(role=chat_pb2.ROLE_TOOL, content="card 4111", tool_call_id="call_0")
    verdict = verdict_pb2.Verdict(action=verdict_pb2.ACTION_REDACT, redacted_text="card [x]")
    stage.prepare(assemble=prompt, check_input=moderation_service_pb2.CheckInputResponse(verdict=verdict))
    messages: list[Mapping[str, Any]] = [*HELLO, {"role": "assistant", "tool_calls": [CALL]}, RESULT]
    completion = Client(stage.channel).complete(messages)
    start = await stage.engine.next_start()
    last = start.messages[-1]
    assert (last.role, last.content, last.tool_call_id) == (chat_pb2.ROLE_TOOL, "card [x]", "call_0")
    # There are no tools to ask for, but the model must know what a result is.
    assert (len(start.tools.tools), start.tools.mode) == (0, chat_pb2.TOOL_MODE_NONE)
    stage.engine.finish(start.generation_id, "Fine.")
    await completion.ended()


async def test_who_sends_the_whole_chat_again_meets_its_beginning(stage: Stage) -> None:
    later = [*HELLO, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Go on"}]
    for messages in (HELLO, later, [{"role": "user", "content": "Other"}]):
        stage.prepare()
        completion = Client(stage.channel).complete(messages, prompt_cache_key="k")
        stage.engine.finish((await stage.engine.next_start()).generation_id, "Hi")
        await completion.ended()
    first, second, other = (list(request.affinity_keys) for request in stage.router.route.requests)
    assert first == second
    assert first[0] == other[0]
    assert first[1] != other[1]


async def test_the_receipt_is_a_header_and_part_of_the_body(stage: Stage) -> None:
    stage.prepare()
    completion = Client(stage.channel).complete()
    stage.engine.finish((await stage.engine.next_start()).generation_id, "Hi")
    whole = (await completion.ended()).whole
    assert await completion.receipt() == whole["chatmesh"]["route"]
    assert whole["chatmesh"]["route"]["replica_id"] == "replica-a"
    for options in (None, {"include_usage": True}):
        fields: dict[str, Any] = {"stream_options": options} if options else {}
        completion, [start] = await begin(stage, **fields)
        stage.engine.finish(start.generation_id, "Hi")
        await completion.ended()
        assert (await completion.receipt())["model"] == "small"
        said = [chunk["chatmesh"]["route"] for chunk in completion.chunks if "chatmesh" in chunk]
        assert said == [completion.chunks[-1]["chatmesh"]["route"]]
        assert said[0]["epochs"] == 1


async def test_what_the_model_cannot_do_is_refused_by_name(stage: Stage) -> None:
    held = {name: Held() for name in ("acquire", "check_input", "route", "assemble")}
    stage.prepare("Hello", **held)
    completion = Client(stage.channel).complete(tools=[WEATHER])
    await asyncio.gather(*(call.called.wait() for call in held.values()))
    metadata = {"model": "small", "capability": "tools"}
    held["route"].reply(DomainError(Reason.UNSUPPORTED_CAPABILITY, "no", metadata=metadata))
    refused = await completion.refusal()
    assert refused.reason is Reason.UNSUPPORTED_PARAMETER
    assert refused.metadata["param"] == "tools"
