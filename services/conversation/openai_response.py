"""OpenAI's responses, chunks and errors as JSON bytes.

https://platform.openai.com/docs/api-reference/chat/object
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import grpc

from services.conversation.model import ErrorSummary, FinishReason, Model, TokenUsage

DONE = b"data: [DONE]\n\n"
OWNER = "chatmesh"

_AFTER_TEXT = '}, "logprobs": null, "finish_reason": null}]}\n\n'

_FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.CANCELLED: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
}

_CODES = {
    "MODEL_NOT_FOUND": ("invalid_request_error", "model_not_found"),
    "MODEL_NOT_ALLOWED": ("invalid_request_error", "model_not_found"),
    "CONTEXT_LENGTH_EXCEEDED": ("invalid_request_error", "context_length_exceeded"),
    "CONTENT_BLOCKED": ("invalid_request_error", "content_policy_violation"),
    "QUOTA_EXCEEDED": ("insufficient_quota", "insufficient_quota"),
    "RATE_LIMITED": ("requests", "rate_limit_exceeded"),
    "OVERLOADED": ("requests", "rate_limit_exceeded"),
    "UNAUTHENTICATED": ("invalid_request_error", "invalid_api_key"),
    "UNSUPPORTED_PARAMETER": ("invalid_request_error", "unsupported_parameter"),
}
_TYPES = {
    grpc.StatusCode.INVALID_ARGUMENT.name: "invalid_request_error",
    grpc.StatusCode.FAILED_PRECONDITION.name: "invalid_request_error",
    grpc.StatusCode.NOT_FOUND.name: "invalid_request_error",
    grpc.StatusCode.PERMISSION_DENIED.name: "invalid_request_error",
    grpc.StatusCode.UNAUTHENTICATED.name: "invalid_request_error",
}


class ChatCompletionFormat:
    """Formats one chat completion: its chunks, or the whole."""

    def __init__(self, *, completion_id: str, created: int, model: str, include_usage: bool) -> None:
        self._completion_id = completion_id
        self._created = created
        self._model = model
        self._include_usage = include_usage
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
        self._before_text = f'data: {self._head}, "choices": [{{"index": 0, "delta": {{"content": '

    def first(self, text: str) -> bytes:
        """The chunk that names the role, with the first text."""
        return self._chunk({"role": "assistant", "content": text, "refusal": None}, None)

    def text(self, text: str) -> bytes:
        """A chunk of text."""
        return f"{self._before_text}{json.dumps(text)}{_AFTER_TEXT}".encode()

    def end(self, reason: FinishReason, usage: TokenUsage) -> bytes:
        """The last chunks, down to `[DONE]`."""
        chunks = self._chunk({}, _FINISH.get(reason, "stop"))
        if self._include_usage:
            head = {**json.loads(self._head + "}"), "usage": _usage(usage), "choices": []}
            chunks += _event(json.dumps(head))
        return chunks + DONE

    def whole(self, text: str, reason: FinishReason, usage: TokenUsage) -> bytes:
        """The completion in one object."""
        return json.dumps(
            {
                "id": self._completion_id,
                "object": "chat.completion",
                "created": self._created,
                "model": self._model,
                "system_fingerprint": None,
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": text, "refusal": None, "annotations": []},
                        "logprobs": None,
                        "finish_reason": _FINISH.get(reason, "stop"),
                    }
                ],
                "usage": _usage(usage),
            }
        ).encode()

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None) -> bytes:
        choice = json.dumps({"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason})
        return _event(f'{self._head}, "choices": [{choice}]}}')


def error_json(error: ErrorSummary) -> str:
    """An error in OpenAI's shape, on one line of ASCII."""
    kind, code = _CODES.get(error.reason, (_TYPES.get(error.code, "server_error"), error.reason.lower()))
    return json.dumps(
        {
            "error": {
                "message": error.message,
                "type": kind,
                "param": error.metadata.get("param") or ("model" if code == "model_not_found" else None),
                "code": code,
            }
        }
    )


def error_event(error: ErrorSummary) -> bytes:
    """An error in the middle of a stream, and the end of the stream."""
    return _event(error_json(error)) + DONE


def model_json(name: str, created: int) -> dict[str, Any]:
    """A model."""
    return {"id": name, "object": "model", "created": created, "owned_by": OWNER}


def models_json(models: Sequence[Model], aliases: Sequence[str]) -> bytes:
    """The list of models; aliases can be used as models and so are listed as such."""
    created = max((model.created for model in models), default=0)
    data = [model_json(model.name, model.created) for model in models]
    data += [model_json(alias, created) for alias in aliases]
    return json.dumps({"object": "list", "data": data}).encode()


def _usage(usage: TokenUsage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()
