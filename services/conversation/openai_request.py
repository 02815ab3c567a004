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

from pydantic import Field

from services.conversation.chat_model import ResponseForm, ResponseFormat, Sampling, Tool, ToolMode, ToolOptions
from services.conversation.completion import CompletionRequest
from services.conversation.openai_body import Body, Name, invalid, read_object, unsupported, validated
from services.conversation.openai_messages import MESSAGE_LIMIT, Message, refuse_media, split
from services.conversation.route_model import Capability
from services.runtime.errors import DomainError, Reason

MAX_TOKENS = 131_072
MAX_ANSWERS = 8
MAX_TOP_LOGPROBS = 20
MAX_TOOLS = 128
MAX_TOOL_TEXT = 1_000_000
MAX_BIASES = 300
MAX_SCHEMA = 64_000

_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "audio": (),
    "function_call": ("none",),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": ("in_memory", "in-memory"),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""Parameters of OpenAI's that are not supported, and the values at which they ask for nothing."""

_HARMLESS = frozenset({"metadata", "safety_identifier"})
"""Parameters that label a request and do not change its answer."""

_TOKEN_ID = r"^(0|[1-9][0-9]{0,9})$"  # noqa: S105 - of the vocabulary
_MAX_TOKEN_ID = 2**31 - 1
_FIELD_PARAMETERS = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "messages",
        "presence_penalty",
        "response_format",
        "seed",
        "stop",
        "temperature",
        "tools",
        "top_logprobs",
        "top_p",
    }
)
"""Fields of the engine's request that are named as they are in OpenAI's."""
_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
"""Of a function that says nothing of them: OpenAI's takes none then."""

_StopString = Annotated[str, Field(min_length=1, max_length=256)]


class _StreamOptions(Body):
    include_usage: bool | None = False


class _Function(Body):
    name: Name
    description: str | None = Field(None, max_length=8192)
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(Body):
    type: Literal["function"]
    function: _Function


class _FunctionName(Body):
    name: Name


class _NamedTool(Body):
    type: Literal["function"]
    function: _FunctionName


class _Text(Body):
    type: Literal["text"]


class _JsonObject(Body):
    type: Literal["json_object"]


class _Schema(Body):
    name: Name
    # Not `schema`, which every model of pydantic has.
    json_schema: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class _JsonSchema(Body):
    type: Literal["json_schema"]
    json_schema: _Schema


class _Request(Body):
    model: str = Field(min_length=1, max_length=128)
    messages: list[Message] = Field(min_length=1, max_length=MESSAGE_LIMIT)
    stream: bool | None = False
    stream_options: _StreamOptions | None = None
    n: int | None = Field(None, ge=1, le=MAX_ANSWERS)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: _StopString | Annotated[list[_StopString], Field(max_length=4)] | None = None
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: (
        Annotated[
            dict[Annotated[str, Field(pattern=_TOKEN_ID)], Annotated[float, Field(ge=-100, le=100)]],
            Field(max_length=MAX_BIASES),
        ]
        | None
    ) = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS)
    response_format: Annotated[_Text | _JsonObject | _JsonSchema, Field(discriminator="type")] | None = None
    tools: list[_Tool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | _NamedTool | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: str | None = Field(None, max_length=1024)
    user: str | None = Field(None, max_length=256)


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
    value = read_object(data)
    _refuse_unsupported(value)
    refuse_media(value.get("messages"))
    known = {name: item for name, item in value.items() if name not in _NEUTRAL and name not in _HARMLESS}
    body = validated(_Request, known)
    if body.stream_options and not body.stream:
        raise invalid("stream_options: only allowed when 'stream' is true.", "stream_options")
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("top_logprobs: only allowed when 'logprobs' is true.", "top_logprobs")
    said = split(body.messages)
    return ChatCompletionRequest(
        completion=CompletionRequest(
            model=body.model,
            system_prompt=said.system_prompt,
            history=said.history,
            user_message=said.user_message,
            ends_in_history=said.ends_in_history,
            sampling=_sampling(body),
            tools=_tools(body, calls_in_history=said.has_calls),
            top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            answers=body.n or 1,
            cache_key=body.prompt_cache_key or "",
        ),
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
    )


def in_openais_words(error: DomainError, asked: CompletionRequest) -> DomainError:
    """The error with the name of the parameter that the chosen model cannot follow, where that is what is wrong."""
    if error.reason is Reason.UNSUPPORTED_RESPONSE_FORMAT:
        param = "response_format"
    elif error.reason is Reason.UNSUPPORTED_CAPABILITY:
        param = _parameter(error.metadata.get("capability", ""), asked)
    elif error.reason is Reason.INVALID_FIELD and (name := _refused_parameter(error)):
        return DomainError(Reason.INVALID_BODY, error.message, metadata={**error.metadata, "param": name})
    else:
        return error
    model = error.metadata.get("model") or asked.model
    message = f"The parameter '{param}' is not supported by the model '{model}'."
    if param == "model":
        message = f"The model '{model}' cannot be used for chat completions."
    return DomainError(Reason.UNSUPPORTED_PARAMETER, message, metadata={**error.metadata, "param": param})


def _parameter(capability: str, asked: CompletionRequest) -> str:
    names = {
        Capability.TOOLS: "tools" if asked.tools and asked.tools.tools else "messages",
        Capability.JSON: "response_format",
        Capability.LOGPROBS: "logprobs",
        Capability.LOGIT_BIAS: "logit_bias",
        Capability.PENALTIES: "presence_penalty" if asked.sampling.presence_penalty else "frequency_penalty",
    }
    return {kind.value: name for kind, name in names.items()}.get(capability.lower(), "model")


def _refused_parameter(error: DomainError) -> str:
    """What stands for the field of the engine's request that is refused in OpenAI's; empty for none."""
    field = error.metadata.get("field") or (error.fields[0].field if error.fields else "")
    if field == "tools.function":
        return "tool_choice"
    name = field.removeprefix("sampling.").partition(".")[0]
    return name if name in _FIELD_PARAMETERS else ""


def _refuse_unsupported(value: Mapping[str, Any]) -> None:
    for name, neutral in _NEUTRAL.items():
        if value.get(name) is not None and value[name] not in neutral:
            raise unsupported(name)
    options = value.get("stream_options")
    if isinstance(options, dict) and options.pop("include_obfuscation", None):
        raise unsupported("stream_options.include_obfuscation")
    for number, tool in enumerate(value["tools"] if isinstance(value.get("tools"), list) else ()):
        if isinstance(tool, dict) and tool.get("type", "function") != "function":
            raise unsupported(f"tools.{number}.type", "tools are functions here")
    choice = value.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type", "function") != "function":
        raise unsupported("tool_choice.type", "tools are functions here")


def _sampling(body: _Request) -> Sampling:
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        seed=body.seed,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        response_format=_response_format(body.response_format),
        presence_penalty=body.presence_penalty or None,
        frequency_penalty=body.frequency_penalty or None,
        logit_bias=_logit_bias(body.logit_bias or {}),
    )


def _logit_bias(biases: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    for token in biases:
        if int(token) > _MAX_TOKEN_ID:
            raise invalid(f"logit_bias: {token} is not the id of a token.", f"logit_bias.{token}")
    return tuple((int(token), bias) for token, bias in biases.items())


def _response_format(asked: _Text | _JsonObject | _JsonSchema | None) -> ResponseFormat | None:
    if asked is None or isinstance(asked, _Text):
        return None
    if isinstance(asked, _JsonObject):
        return ResponseFormat(ResponseForm.JSON_OBJECT)
    schema = asked.json_schema.json_schema
    if asked.json_schema.description:
        schema = {"description": asked.json_schema.description, **schema}
    return ResponseFormat(ResponseForm.JSON_SCHEMA, _schema_text(schema, "response_format.json_schema.schema"))


def _tools(body: _Request, *, calls_in_history: bool) -> ToolOptions | None:
    if not body.tools:
        if body.tool_choice not in (None, "none", "auto"):
            raise invalid("tool_choice: only allowed when 'tools' are given.", "tool_choice")
        # Calls that were made are part of the prompt: the model must know of such things.
        return ToolOptions((), ToolMode.NONE) if calls_in_history else None
    tools: dict[str, Tool] = {}
    for number, tool in enumerate(body.tools):
        function = tool.function
        if function.name in tools:
            raise invalid(
                f"tools.{number}.function.name: there is another function with the name '{function.name}'.",
                f"tools.{number}.function.name",
            )
        where = f"tools.{number}.function.parameters"
        tools[function.name] = Tool(
            name=function.name,
            description=function.description or "",
            parameters=_schema_text(_NO_PARAMETERS if function.parameters is None else function.parameters, where),
            strict=bool(function.strict),
        )
    mode, only = _mode(body.tool_choice, tools)
    options = ToolOptions(tuple(tools.values()), mode, only, single_call=body.parallel_tool_calls is False)
    if len(options.text) > MAX_TOOL_TEXT:
        raise invalid(f"tools: must have at most {MAX_TOOL_TEXT} characters in all.", "tools")
    return options


def _mode(choice: str | _NamedTool | None, tools: Mapping[str, Tool]) -> tuple[ToolMode, str]:
    if not isinstance(choice, _NamedTool):
        return ToolMode(choice or "auto"), ""
    name = choice.function.name
    if name not in tools:
        raise invalid(f"tool_choice: there is no function '{name}' in 'tools'.", "tool_choice.function.name")
    return ToolMode.REQUIRED, name


def _schema_text(schema: Mapping[str, Any], param: str) -> str:
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    if len(text) > MAX_SCHEMA:
        raise invalid(f"{param}: must have at most {MAX_SCHEMA} characters.", param)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise invalid(f"{param}: must be valid Unicode.", param) from error
    return text
