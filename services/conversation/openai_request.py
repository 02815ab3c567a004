"""OpenAI's request for a chat completion, read strictly.

What we cannot do is refused by name and never ignored: a parameter that is silently dropped is an answer to a question
nobody asked. A parameter at its neutral value asks for nothing and passes.
https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.conversation.completion import CompletionRequest
from services.conversation.model import ChatMessage, Role, Sampling
from services.runtime.errors import DomainError, Reason

MAX_MESSAGES = 2048
MAX_CONTENT = 1_000_000
MAX_TOKENS = 131_072

_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
    "service_tier": ("auto", "default"),
}
"""Parameters of OpenAI's that are not supported yet, and the values at which they ask for nothing."""

_HARMLESS = frozenset({"metadata", "safety_identifier", "prompt_cache_key"})
"""Parameters that label a request and do not change its answer."""


class _Text(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Literal["text"]
    text: str = Field(max_length=MAX_CONTENT)


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=MAX_CONTENT)] | list[_Text]
    name: None = None
    refusal: None = None

    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)
    model: str = Field(min_length=1, max_length=128)
    messages: list[_Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: (
        Annotated[str, Field(min_length=1, max_length=256)]
        | list[Annotated[str, Field(min_length=1, max_length=256)]]
        | None
    ) = None
    user: str | None = Field(None, max_length=256)


_FIELDS = frozenset().union(*(model.model_fields for model in (_Body, _Message, _Text, _StreamOptions)))


@dataclass(frozen=True, slots=True)
class ChatCompletionRequest:
    """What is asked, and how it is to be sent."""

    completion: CompletionRequest
    stream: bool
    include_usage: bool


def parse_chat_completion(data: bytes) -> ChatCompletionRequest:
    """Read the body of a request.

    Raises:
        DomainError: INVALID_BODY or UNSUPPORTED_PARAMETER; `param` in the metadata says where.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _invalid("The body is not valid JSON.", "") from error
    if not isinstance(value, dict):
        raise _invalid("The body must be a JSON object.", "")
    _refuse_unsupported(value)
    try:
        body = _Body.model_validate({k: v for k, v in value.items() if k not in _NEUTRAL and k not in _HARMLESS})
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = _path(problem["loc"], unknown=problem["type"] == "extra_forbidden")
        if problem["type"] == "extra_forbidden":
            raise _unsupported(path, f"Unrecognized request argument supplied: {path}.") from error
        raise _invalid(f"{path}: {problem['msg']}.", path) from error
    return ChatCompletionRequest(
        completion=CompletionRequest(
            model=body.model,
            sampling=Sampling(
                temperature=body.temperature,
                top_p=body.top_p,
                max_tokens=body.max_completion_tokens or body.max_tokens,
                seed=body.seed,
                stop=_stop(body.stop),
            ),
            **_split(body.messages),
        ),
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
    )


def _path(location: tuple[int | str, ...], *, unknown: bool) -> str:
    """Where in the body: `messages.0.content`. Pydantic also names the type that it tried, which says nothing here."""
    parts = [str(part) for part in location if isinstance(part, int) or part in _FIELDS]
    return ".".join([*parts, str(location[-1])] if unknown else parts)


def _split(messages: list[_Message]) -> dict[str, Any]:
    """The system prompt in front, the history, and the user's message that is to be answered."""
    first = 0
    while first < len(messages) and messages[first].role in ("system", "developer"):
        first += 1
    if first == len(messages) or messages[-1].role != "user":
        raise _invalid("The last message must have the role 'user'.", f"messages.{len(messages) - 1}.role")
    if not messages[-1].text().strip():
        raise _invalid("The last message must not be empty.", f"messages.{len(messages) - 1}.content")
    roles = {"developer": Role.SYSTEM}
    return {
        "system_prompt": "\n\n".join(m.text() for m in messages[:first]),
        "history": tuple(
            ChatMessage(roles.get(m.role) or Role(m.role), m.text()) for m in messages[first:-1] if m.text()
        ),
        "user_message": messages[-1].text(),
    }


def _refuse_unsupported(value: dict[str, Any]) -> None:
    for name, neutral in _NEUTRAL.items():
        if value.get(name) is not None and value[name] not in neutral:
            raise _unsupported(name, f"The parameter '{name}' is not supported by this server.")


def _stop(value: str | list[str] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = (value,) if isinstance(value, str) else tuple(value)
    if len(stops) > 4:
        raise _invalid("stop: at most 4 stop strings.", "stop")
    return stops


def _invalid(message: str, param: str) -> DomainError:
    return DomainError(Reason.INVALID_BODY, message, metadata={"param": param})


def _unsupported(param: str, message: str) -> DomainError:
    return DomainError(Reason.UNSUPPORTED_PARAMETER, message, metadata={"param": param})
