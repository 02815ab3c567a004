"""What is said in a chat, how it is to be sampled, and what it takes in tokens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class FinishReason(StrEnum):
    """Why an answer ended."""

    NONE = ""
    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    CONTENT_FILTER = "content_filter"
    ERROR = "error"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asks for. `arguments` is JSON as the model wrote it, which need not be valid."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message as a model sees it. An assistant's may have calls; a tool's names the call that it answers."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""


class ToolMode(StrEnum):
    """Whether a model may, must or must not ask for tools."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may ask for. `parameters` is a JSON Schema, or empty."""

    name: str
    description: str = ""
    parameters: str = ""
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """The tools of one request. `function` is the one that must be called, or empty for any."""

    tools: tuple[Tool, ...]
    mode: ToolMode = ToolMode.AUTO
    function: str = ""
    single_call: bool = False

    @property
    def text(self) -> str:
        """All that a model is told of them, for it to be checked and counted."""
        return "\n".join(f"{tool.name}\n{tool.description}\n{tool.parameters}" for tool in self.tools)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """What a model thought of one token. `top` are the likeliest tokens at this place, the likeliest first."""

    token: str
    data: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of one call of an answer. `id` and `name` stand on its first delta only."""

    index: int
    id: str
    name: str
    arguments: str


class ResponseForm(StrEnum):
    """Of what kind the form of an answer is."""

    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    GRAMMAR = "grammar"


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The form that an answer must have. `text` is the JSON Schema, or the grammar in GBNF."""

    form: ResponseForm
    text: str = ""


@dataclass(frozen=True, slots=True)
class GeneratedPiece:
    """Part of what a model has written. `token_ids` are exactly the tokens of `text`; empty when not known."""

    text: str
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample; None takes the model's default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    response_format: ResponseFormat | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids of the model with what is added to their logits, by id."""


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens that an answer took, as the engine counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
