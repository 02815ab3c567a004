"""Context on a real port, with a tokenizer on a real port."""

from __future__ import annotations

import queue
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from chatmesh.context.v1 import context_service_pb2
from chatmesh.context.v1.context_service_pb2_grpc import ContextServiceStub
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import DomainError, Reason, from_status

Wait = Callable[[Callable[[], object], str], None]
Request = context_service_pb2.AssembleContextRequest
Response = context_service_pb2.AssembleContextResponse

TRACE = "0af7651916cd43dd8448eb211c80319c"


def page_of(history: list[str], *, exhausted: bool) -> context_service_pb2.HistoryPage:
    """Messages newest first, the newest an answer; a message's id is its first word."""
    messages = [
        context_service_pb2.HistoryMessage(
            id=text.split()[0],
            message=chat_pb2.ChatMessage(
                role=chat_pb2.ROLE_USER if place % 2 else chat_pb2.ROLE_ASSISTANT, content=text
            ),
        )
        for place, text in enumerate(history)
    ]
    return context_service_pb2.HistoryPage(messages=messages, exhausted=exhausted)


class Assembly:
    """One stream, in the hands of the test."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._requests: queue.Queue[Request | None] = queue.Queue()
        self._call: Any = ContextServiceStub(channel).AssembleContext(
            iter(self._requests.get, None),
            timeout=20,
            metadata=(("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"), ("x-request-id", "q1")),
        )

    def say(self, **request: Any) -> None:
        self._requests.put(Request(**request))

    def start(
        self,
        user_message: str = "new",
        system_prompt: str = "",
        first_page: context_service_pb2.HistoryPage | None = None,
        custom_instructions: str = "",
    ) -> None:
        self.say(
            start=context_service_pb2.ContextStart(
                user_message=user_message,
                system_prompt=system_prompt,
                first_page=first_page,
                custom_instructions=custom_instructions,
            )
        )

    def target(self, address: str, *, model: str, context_length: int = 1000, reserved: int = 0) -> None:
        self.say(
            target=context_service_pb2.ContextTarget(
                model=model,
                context_length=context_length,
                reserved_output_tokens=reserved,
                tokenizer_address=address,
                default_system_prompt="Be brief.",
            )
        )

    def page(self, history: list[str], *, exhausted: bool) -> None:
        self.say(history_page=page_of(history, exhausted=exhausted))

    def end(self) -> None:
        self._requests.put(None)

    def hear(self) -> Response:
        answer = next(self._call)
        assert isinstance(answer, Response)
        return answer

    def wanted(self) -> int:
        answer = self.hear()
        assert answer.WhichOneof("response") == "history_request"
        return answer.history_request.max_messages

    def assembled(self) -> context_service_pb2.AssembledContext:
        answer = self.hear()
        assert answer.WhichOneof("response") == "assembled"
        with pytest.raises(StopIteration):
            next(self._call)
        return answer.assembled

    def refusal(self) -> DomainError:
        with pytest.raises(grpc.RpcError) as caught:
            for _ in self._call:
                pass
        assert isinstance(caught.value, grpc.Call)
        status = rpc_status.from_call(caught.value)
        assert status is not None
        error = from_status(status)
        assert error is not None
        assert caught.value.code() is error.code
        return error


@pytest.fixture
def assembly(channel: grpc.Channel) -> Iterator[Assembly]:
    opened = Assembly(channel)
    yield opened
    opened.end()


def test_it_serves(channel: grpc.Channel, wait_until: Wait) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="chatmesh.context.v1.ContextService")
    wait_until(lambda: health.Check(request).status == health_pb2.HealthCheckResponse.SERVING, "serving")


def test_a_short_chat_is_pulled_before_the_model_is_known(assembly: Assembly, tokenizer: Any) -> None:
    assembly.start("And now?")
    assert assembly.wanted() == 20
    assembly.page(["a2 fine", "u2 how", "a1 hello", "u1 hi"], exhausted=True)
    assembly.target(tokenizer.address, model="short", reserved=600)
    done = assembly.assembled()
    assert [(message.role, message.content) for message in done.messages] == [
        (chat_pb2.ROLE_SYSTEM, "Be brief."),
        (chat_pb2.ROLE_USER, "u1 hi"),
        (chat_pb2.ROLE_ASSISTANT, "a1 hello"),
        (chat_pb2.ROLE_USER, "u2 how"),
        (chat_pb2.ROLE_ASSISTANT, "a2 fine"),
        (chat_pb2.ROLE_USER, "And now?"),
    ]
    assert (done.oldest_message_id, done.truncated) == ("u1", False)
    # Bytes and one more a message, 2 of template a message, 3 once.
    assert done.prompt_tokens == (9 + 5 + 8 + 6 + 7 + 8) + 6 * 3 + 3
    assert done.available_output_tokens == 1000 - done.prompt_tokens
    assert tokenizer.asked == [("short", [])]


def test_a_page_that_comes_with_the_start_is_not_asked_for(assembly: Assembly, tokenizer: Any) -> None:
    assembly.start("And now?", first_page=page_of(["a1 hello", "u1 hi"], exhausted=True))
    assembly.target(tokenizer.address, model="short", reserved=600)
    assert [message.content for message in assembly.assembled().messages[1:]] == ["u1 hi", "a1 hello", "And now?"]


def test_custom_instructions_stand_in_the_system_message(assembly: Assembly, tokenizer: Any) -> None:
    assembly.start("And now?", first_page=page_of([], exhausted=True), custom_instructions="I am Ann.")
    assembly.target(tokenizer.address, model="short", reserved=600)
    done = assembly.assembled()
    assert [(message.role, message.content) for message in done.messages] == [
        (chat_pb2.ROLE_SYSTEM, "Be brief.\n\nI am Ann."),
        (chat_pb2.ROLE_USER, "And now?"),
    ]
    # Bytes and one more a message, 2 of template a message, 3 once.
    assert done.prompt_tokens == (9 + 2 + 9 + 1) + (8 + 1) + 2 * 2 + 3


def test_more_than_the_page_that_came_with_the_start_is_pulled(assembly: Assembly, tokenizer: Any) -> None:
    assembly.start("And now?", first_page=page_of(["a2 fine", "u2 how"], exhausted=False))
    assembly.target(tokenizer.address, model="short", reserved=600)
    assert assembly.wanted() == 40
    assembly.page(["a1 hello", "u1 hi"], exhausted=True)
    assert assembly.assembled().oldest_message_id == "u1"


def test_a_long_chat_is_counted_and_cut_where_the_window_ends(assembly: Assembly, tokenizer: Any) -> None:
    history = [f"m{number} " + "word " * 7 for number in range(1000)]
    assembly.start(system_prompt="My own prompt.")
    sent = 0
    wanted = []
    assembly.target(tokenizer.address, model="long", context_length=1000, reserved=200)
    while sent < 80:
        wanted.append(assembly.wanted())
        assembly.page(history[sent : sent + wanted[-1]], exhausted=False)
        sent += wanted[-1]
    done = assembly.assembled()
    # 800 less 3, less 5 for the system prompt and 3 for the message: room for 78 messages of 10.
    assert wanted == [20, 40, 80]
    assert done.messages[0].content == "My own prompt."
    assert [message.content for message in done.messages[1:-1]] == history[77::-1]
    assert (done.prompt_tokens, done.available_output_tokens) == (3 + 5 + 3 + 780, 209)
    assert (done.truncated, done.oldest_message_id) == (True, "m77")
    assert len(tokenizer.asked) < 6
    assert TRACE in tokenizer.metadata["traceparent"]
    assert tokenizer.metadata["x-request-id"] == "q1"


def test_a_window_does_not_begin_with_an_answer(assembly: Assembly, tokenizer: Any) -> None:
    assembly.start()
    assembly.target(tokenizer.address, model="pairs", context_length=70)
    assembly.wanted()
    assembly.page([f"m{number} " + "word " * 17 for number in range(20)], exhausted=True)
    done = assembly.assembled()
    # Room for three of 20; the third is an answer.
    assert [message.content.split()[0] for message in done.messages] == ["Be", "m1", "m0", "new"]
    assert done.truncated


def test_texts_are_counted_once(channel: grpc.Channel, tokenizer: Any) -> None:
    history = [f"m{number} " + "word " * 20 for number in range(20)]
    for _ in range(2):
        assembly = Assembly(channel)
        assembly.start()
        assembly.target(tokenizer.address, model="cached", context_length=300)
        assembly.wanted()
        assembly.page(history, exhausted=True)
        assert assembly.assembled().truncated
        assembly.end()
    assert sorted(tokenizer.texts_counted) == sorted([*history, "Be brief.", "new"])


def test_a_message_that_does_not_fit_is_refused(assembly: Assembly, tokenizer: Any) -> None:
    assembly.start("word " * 200)
    assembly.target(tokenizer.address, model="small", context_length=256, reserved=100)
    error = assembly.refusal()
    assert error.reason is Reason.CONTEXT_LENGTH_EXCEEDED
    assert error.metadata == {"model": "small", "context_length": "256", "prompt_tokens": "209"}


def test_what_comes_out_of_order_is_refused(channel: grpc.Channel, tokenizer: Any) -> None:
    for words, expected in {
        "page": "start",
        "nothing": "start, target, history_page",
        "start start": "target",
        "start target target": "history_page",
        "start target nothing": "start, target, history_page",
        "start target end": "history_page",
        "start end": "target",
        "end": "start",
    }.items():
        assembly = Assembly(channel)
        for word in words.split():
            match word:
                case "start":
                    assembly.start()
                case "target":
                    assembly.target(tokenizer.address, model="small")
                case "page":
                    assembly.page([], exhausted=True)
                case "nothing":
                    assembly.say()
                case "end":
                    assembly.end()
        error = assembly.refusal()
        assert (words, error.reason, error.metadata) == (words, Reason.PROTOCOL_VIOLATION, {"expected": expected})
        assembly.end()


def test_limits_hold_on_the_stream(assembly: Assembly, tokenizer: Any) -> None:
    assembly.start()
    assembly.say(target=context_service_pb2.ContextTarget(model="small", tokenizer_address=tokenizer.address))
    error = assembly.refusal()
    assert error.reason is Reason.INVALID_FIELD
    assert [field.field for field in error.fields] == ["target.context_length"]


def test_a_role_that_is_unknown_is_refused(assembly: Assembly, tokenizer: Any) -> None:
    assembly.start()
    assembly.target(tokenizer.address, model="small")
    message = chat_pb2.ChatMessage(content="x")
    message.role = 77  # type: ignore[assignment]
    page = context_service_pb2.HistoryPage(exhausted=True)
    page.messages.add(id="m", message=message)
    assembly.say(history_page=page)
    assert assembly.refusal().reason is Reason.INVALID_FIELD


def test_a_tokenizer_that_is_down_is_named(assembly: Assembly, tokenizer: Any) -> None:
    tokenizer.stop()
    assembly.start()
    assembly.target(tokenizer.address, model="down")
    error = assembly.refusal()
    assert error.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert error.metadata["service"] == "inference"


def test_a_tokenizer_that_answers_something_else_is_not_believed(assembly: Assembly, tokenizer: Any) -> None:
    tokenizer.lies = True
    assembly.start("word " * 300)
    assembly.target(tokenizer.address, model="lies")
    assert assembly.refusal().reason is Reason.DEPENDENCY_UNAVAILABLE


def test_the_work_is_counted(assembly: Assembly, tokenizer: Any, context_process: Any) -> None:
    assembly.start()
    assembly.target(tokenizer.address, model="measured", context_length=100)
    assembly.wanted()
    assembly.page([f"secret{number} " + "word " * 20 for number in range(20)], exhausted=True)
    assembly.assembled()
    with urllib.request.urlopen(f"http://{context_process.metrics_address}/metrics") as page:
        metrics = page.read().decode()
    lines = {line.split("{")[0]: line.rpartition(" ")[2] for line in metrics.splitlines() if '"measured"' in line}
    assert float(lines["chatmesh_context_pages_total"]) == 1
    assert float(lines["chatmesh_context_tokens_counted_total"]) == 20 * 21 + 3
    assert float(lines["chatmesh_context_prompts_total"]) == 1
    assert 'truncated="true"' in metrics
    assert "secret" not in metrics


def test_calls_of_tools_and_their_results_pass_and_may_be_what_is_answered(assembly: Assembly, tokenizer: Any) -> None:
    said = [
        chat_pb2.ChatMessage(role=chat_pb2.ROLE_TOOL, content="rain", tool_call_id="call_1"),
        chat_pb2.ChatMessage(
            role=chat_pb2.ROLE_ASSISTANT, tool_calls=[chat_pb2.ToolCall(id="call_1", name="weather", arguments="{}")]
        ),
        chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content="And the weather?", name="ann"),
    ]
    messages = [context_service_pb2.HistoryMessage(id=f"m{n}", message=message) for n, message in enumerate(said)]
    page = context_service_pb2.HistoryPage(messages=messages, exhausted=True)
    assembly.say(start=context_service_pb2.ContextStart(first_page=page, beside_messages="x" * 100))
    assembly.target(tokenizer.address, model="tools", reserved=100)
    done = assembly.assembled()
    assert list(done.messages)[1:] == list(reversed(said))
    assert done.prompt_tokens > 100
    assert done.available_output_tokens == 1000 - done.prompt_tokens
