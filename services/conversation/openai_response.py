"""OpenAI's responses, chunks and errors as JSON bytes.

https://platform.openai.com/docs/api-reference/chat/object
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from services.conversation.chat_model import FinishReason, TokenLogprob, TokenUsage, ToolCall
from services.conversation.model import ErrorSummary

DONE = b"data: [DONE]\n\n"
OWN_KEY = "chatmesh"
"""Under which objects say what OpenAI's do not have."""

_AFTER_TEXT = '}, "logprobs": null, "finish_reason": null}]}\n\n'
_LEAST_LOGPROB = -9999.0
"""What OpenAI gives for a token that was as good as impossible; JSON has no infinity."""

_FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.CANCELLED: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.TOOL_CALLS: "tool_calls",
}

_CODES = {
    "MODEL_NOT_FOUND": ("invalid_request_error", "model_not_found"),
    "MODEL_NOT_ALLOWED": ("invalid_request_error", "model_not_found"),
    "CONTEXT_LENGTH_EXCEEDED": ("invalid_request_error", "context_length_exceeded"),
    "CONTENT_BLOCKED": ("invalid_request_error", "content_policy_violation"),
    "CONTENT_HELD": ("invalid_request_error", "content_policy_violation"),
    "QUOTA_EXCEEDED": ("insufficient_quota", "insufficient_quota"),
    "RATE_LIMITED": ("requests", "rate_limit_exceeded"),
    "OVERLOADED": ("requests", "rate_limit_exceeded"),
    "UNAUTHENTICATED": ("invalid_request_error", "invalid_api_key"),
    "UNSUPPORTED_PARAMETER": ("invalid_request_error", "unsupported_parameter"),
}
_PARAMS = {"model_not_found": "model", "context_length_exceeded": "messages"}
_TYPES = {
    grpc.StatusCode.INVALID_ARGUMENT.name: "invalid_request_error",
    grpc.StatusCode.FAILED_PRECONDITION.name: "invalid_request_error",
    grpc.StatusCode.NOT_FOUND.name: "invalid_request_error",
    grpc.StatusCode.PERMISSION_DENIED.name: "invalid_request_error",
    grpc.StatusCode.UNAUTHENTICATED.name: "invalid_request_error",
}


@dataclass(frozen=True, slots=True)
class Answered:
    """One choice, whole."""

    text: str
    reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()


class ChatCompletionFormat:
    """Formats one chat completion: its chunks, or the whole.

    Args:
        completion_id: Its id.
        created: When, in Unix seconds.
        model: Who answers.
        include_usage: Whether a chunk at the end says what it took.
        with_logprobs: Whether log-probabilities were asked for.
    """

    def __init__(
        self, *, completion_id: str, created: int, model: str, include_usage: bool, with_logprobs: bool = False
    ) -> None:
        self._completion_id = completion_id
        self._created = created
        self._model = model
        self._include_usage = include_usage
        self._with_logprobs = with_logprobs
        head = {
            "id": completion_id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "system_fingerprint": None,
        }
        if include_usage:
            head["usage"] = None
        # Everything but the text is the same in each chunk, so it is printed once.
        self._head = json.dumps(head)[:-1]
        self._begun: set[int] = set()

    def begin(self, index: int) -> bytes:
        """The chunk that names the role of a choice, once."""
        return b"" if index in self._begun else self._chunk(index, self._role(index, {"content": ""}))

    def text(self, index: int, text: str, logprobs: Sequence[TokenLogprob] = ()) -> bytes:
        """A chunk of text; the first of its choice names the role."""
        if index in self._begun and not self._with_logprobs:
            before = f'data: {self._head}, "choices": [{{"index": {index}, "delta": {{"content": '
            return f"{before}{json.dumps(text)}{_AFTER_TEXT}".encode()
        return self._chunk(index, self._role(index, {"content": text}), logprobs=logprobs)

    def finish(
        self,
        index: int,
        reason: FinishReason,
        *,
        logprobs: Sequence[TokenLogprob] = (),
        tool_calls: Sequence[ToolCall] = (),
        route: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The end of a choice, with what of it was not said yet.

        Args:
            index: Of the choice.
            reason: Why it ended.
            logprobs: Of its last tokens.
            tool_calls: The calls that it asks for.
            route: The receipt, with the last choice; with usage it comes in the chunk after this.
        """
        chunks = b""
        for number, call in enumerate(tool_calls):
            delta = {"tool_calls": [{"index": number, **_call(call)}]}
            if index not in self._begun:
                delta = self._role(index, {"content": None, **delta})
            chunks += self._chunk(index, delta)
        chunks += self.begin(index)
        own = route if not self._include_usage else None
        return chunks + self._chunk(index, {}, finish_reason=_FINISH.get(reason, "stop"), logprobs=logprobs, route=own)

    def end(self, usage: TokenUsage, route: Mapping[str, Any]) -> bytes:
        """The last chunks, down to `[DONE]`."""
        if not self._include_usage:
            return DONE
        head = {**json.loads(self._head + "}"), "usage": _usage(usage), "choices": [], **_own(route)}
        return _event(json.dumps(head)) + DONE

    def whole(self, choices: Sequence[Answered], usage: TokenUsage, route: Mapping[str, Any]) -> bytes:
        """The completion in one object."""
        return json.dumps(
            {
                "id": self._completion_id,
                "object": "chat.completion",
                "created": self._created,
                "model": self._model,
                "system_fingerprint": None,
                "choices": [self._choice(index, choice) for index, choice in enumerate(choices)],
                "usage": _usage(usage),
                **_own(route),
            }
        ).encode()

    def _choice(self, index: int, choice: Answered) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None, "annotations": []}
        if choice.tool_calls:
            message["content"] = choice.text or None
            message["tool_calls"] = [_call(call) for call in choice.tool_calls]
        return {
            "index": index,
            "message": message,
            "logprobs": _logprobs(choice.logprobs) if self._with_logprobs else None,
            "finish_reason": _FINISH.get(choice.reason, "stop"),
        }

    def _role(self, index: int, delta: dict[str, Any]) -> dict[str, Any]:
        if index in self._begun:
            return delta
        self._begun.add(index)
        return {"role": "assistant", **delta, "refusal": None}

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        finish_reason: str | None = None,
        logprobs: Sequence[TokenLogprob] = (),
        route: Mapping[str, Any] | None = None,
    ) -> bytes:
        said = _logprobs(logprobs) if logprobs else None
        choice = {"index": index, "delta": delta, "logprobs": said, "finish_reason": finish_reason}
        own = f", {json.dumps(_own(route))[1:-1]}" if route is not None else ""
        return _event(f'{self._head}, "choices": [{json.dumps(choice)}]{own}}}')


def error_json(error: ErrorSummary) -> str:
    """An error in OpenAI's shape, on one line of ASCII."""
    kind, code = _CODES.get(error.reason, (_TYPES.get(error.code, "server_error"), error.reason.lower()))
    return json.dumps(
        {
            "error": {
                "message": error.message,
                "type": kind,
                "param": error.metadata.get("param") or _PARAMS.get(code),
                "code": code,
            }
        }
    )


def error_event(error: ErrorSummary) -> bytes:
    """An error in the middle of a stream, and the end of the stream."""
    return _event(error_json(error)) + DONE


def _own(route: Mapping[str, Any]) -> dict[str, Any]:
    return {OWN_KEY: {"route": route}}


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _logprobs(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    content = [{**_token(token), "top_logprobs": [_token(other) for other in token.top]} for token in logprobs]
    return {"content": content, "refusal": None}


def _token(token: TokenLogprob) -> dict[str, Any]:
    data = token.data or token.token.encode(errors="replace")
    return {"token": token.token, "bytes": list(data), "logprob": max(_LEAST_LOGPROB, token.logprob)}


def _usage(usage: TokenUsage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()
