"""What OpenAI's clients send is understood; what we cannot do is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.conversation.model import ChatMessage, Role
from services.conversation.openai_request import parse_chat_completion
from services.runtime.errors import DomainError, Reason

HELLO = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}


def body(**changes: Any) -> bytes:
    return json.dumps({**HELLO, **changes}).encode()


def test_messages_become_system_prompt_history_and_question() -> None:
    parsed = parse_chat_completion(
        body(
            messages=[
                {"role": "system", "content": "be brief"},
                {"role": "developer", "content": "no emoji"},
                {"role": "user", "content": "hi"},
                {"role": "assistant", "content": "hello"},
                {"role": "user", "content": [{"type": "text", "text": "who "}, {"type": "text", "text": "am I"}]},
            ],
            stream=True,
            stream_options={"include_usage": True},
            stop="\n",
            max_completion_tokens=5,
            temperature=0,
            seed=7,
        )
    )
    asked = parsed.completion
    assert asked.system_prompt == "be brief\n\nno emoji"
    assert asked.history == (ChatMessage(Role.USER, "hi"), ChatMessage(Role.ASSISTANT, "hello"))
    assert asked.user_message == "who am I"
    assert asked.sampling.stop == ("\n",)
    assert (asked.sampling.max_tokens, asked.sampling.temperature, asked.sampling.seed) == (5, 0.0, 7)
    assert parsed.stream
    assert parsed.include_usage


def test_parameters_at_their_neutral_value_pass() -> None:
    parse_chat_completion(body(n=1, logprobs=False, presence_penalty=0, tools=None, response_format={"type": "text"}))


@pytest.mark.parametrize(
    ("changes", "param", "reason"),
    [
        ({"n": 2}, "n", Reason.UNSUPPORTED_PARAMETER),
        ({"tools": [{"type": "function"}]}, "tools", Reason.UNSUPPORTED_PARAMETER),
        ({"nonsense": 1}, "nonsense", Reason.UNSUPPORTED_PARAMETER),
        ({"temperature": 3}, "temperature", Reason.INVALID_BODY),
        ({"max_tokens": 0}, "max_tokens", Reason.INVALID_BODY),
        ({"messages": []}, "messages", Reason.INVALID_BODY),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role", Reason.INVALID_BODY),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages.0.role", Reason.INVALID_BODY),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages.0.content", Reason.INVALID_BODY),
        ({"model": ""}, "model", Reason.INVALID_BODY),
        ({"stop": ["a"] * 5}, "stop", Reason.INVALID_BODY),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(changes: dict[str, Any], param: str, reason: Reason) -> None:
    with pytest.raises(DomainError) as refused:
        parse_chat_completion(body(**changes))
    assert refused.value.reason is reason
    assert refused.value.metadata["param"] == param


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'"text"'])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(DomainError) as refused:
        parse_chat_completion(data)
    assert refused.value.reason is Reason.INVALID_BODY
