"""A generation as the body of a request to /chat/completions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from services.inference.engines.engine import invalid_response_format, unsupported_response_format
from services.inference.engines.openai.options import OpenAIOptions
from services.inference.model import (
    GenerationRequest,
    Message,
    ResponseForm,
    ResponseFormat,
    Role,
    Sampling,
    Tool,
    ToolCall,
    ToolOptions,
)
from services.runtime.errors import DomainError, FieldViolation, Reason

_SEEDS = 2**32 - 1
"""Servers take 32 or 64 bits, some nothing negative, and llama.cpp takes the greatest of 32 bits for a random one."""
_MOST_STOPS = 4
"""OpenAI takes no more. The others are met on our side only."""
_COUNTS: dict[str, dict[str, Any]] = {
    "none": {},
    "vllm": {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    "llama_cpp": {"timings_per_token": True},
}


def build_body(
    request: GenerationRequest, options: OpenAIOptions, *, model: str, max_tokens: int, logprobs: bool
) -> dict[str, Any]:
    """The body.

    Raises:
        DomainError: ENGINE_FAILED, INVALID_FIELD or UNSUPPORTED_RESPONSE_FORMAT for what cannot be said.
    """
    messages = [_message(message) for message in request.messages]
    body: dict[str, Any] = {
        **options.extra_body,
        "model": model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        **_COUNTS[options.chunk_counts],
        options.max_tokens_field: max_tokens,
        **_sampling(request.sampling, model=request.model),
    }
    if written := "".join(piece.text for piece in request.continuation):
        if request.messages and request.messages[-1].role is Role.ASSISTANT:
            messages[-1]["content"] += written
        else:
            messages.append({"role": Role.ASSISTANT.value, "content": written})
    if options.continuation == "prefill" and messages[-1]["role"] == Role.ASSISTANT.value:
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    if request.tools is not None:
        body |= _tools(request.tools)
    if options.send_stops and request.sampling.stop:
        body["stop"] = list(request.sampling.stop[:_MOST_STOPS])
    if logprobs:
        # For llama.cpp, none of the likeliest ones are no log-probabilities at all.
        body |= {"logprobs": True, "top_logprobs": max(1, request.top_logprobs or 0)}
    return body


def _sampling(sampling: Sampling, *, model: str) -> dict[str, Any]:
    said: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": None if sampling.seed is None else sampling.seed % _SEEDS,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": {str(token): bias for token, bias in sampling.logit_bias} or None,
        "response_format": _form(sampling.response_format, model=model),
    }
    return {name: value for name, value in said.items() if value is not None}


def _form(asked: ResponseFormat | None, *, model: str) -> dict[str, Any] | None:
    if asked is None:
        return None
    if asked.form is ResponseForm.JSON_OBJECT:
        return {"type": "json_object"}
    if asked.form is ResponseForm.GRAMMAR:
        raise unsupported_response_format(model, f"{model} takes no grammars; use a JSON Schema.")
    schema = _parsed(asked.text)
    if schema is None:
        raise invalid_response_format(
            "The JSON Schema of the response format is not a JSON object.", "must be a JSON Schema, written as JSON"
        )
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _message(message: Message) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.tool_calls:
        said["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.role is Role.TOOL:
        said["tool_call_id"] = message.tool_call_id
    elif message.name:
        said["name"] = message.name
    return said


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _tools(asked: ToolOptions) -> dict[str, Any]:
    if asked.function and asked.function not in {tool.name for tool in asked.tools}:
        raise _invalid_tools(
            "function", "The function to call is none of the tools.", "must be the name of one of the tools"
        )
    named = {"type": "function", "function": {"name": asked.function}}
    said: dict[str, Any] = {
        "tools": [{"type": "function", "function": _function(tool)} for tool in asked.tools],
        "tool_choice": named if asked.function else asked.mode.value,
    }
    if asked.single_call:
        said["parallel_tool_calls"] = False
    return said


def _function(tool: Tool) -> dict[str, Any]:
    said: dict[str, Any] = {"name": tool.name}
    if tool.description:
        said["description"] = tool.description
    if tool.parameters.strip():
        parameters = _parsed(tool.parameters)
        if parameters is None:
            raise _invalid_tools(
                "parameters", "The parameters of a tool are no JSON object.", "must be a JSON Schema, written as JSON"
            )
        said["parameters"] = parameters
    if tool.strict:
        said["strict"] = True
    return said


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        schema = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return schema if isinstance(schema, dict) else None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _invalid_tools(field: str, message: str, problem: str) -> DomainError:
    return DomainError(Reason.INVALID_FIELD, message, fields=[FieldViolation(f"tools.{field}", problem)])


def texts_of(messages: Sequence[Message]) -> list[str]:
    """Everything in messages that takes tokens."""
    return [
        text
        for message in messages
        for text in (message.content, *(f"{call.name}{call.arguments}" for call in message.tool_calls))
    ]
