"""A generation as the Inference service and its engines see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from services.runtime.errors import DomainError


class Role(Enum):
    """Who speaks; the values are what chat templates call them."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class FinishReason(Enum):
    """Why a generation ended; the values are what telemetry calls them."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt."""

    role: Role
    content: str


class ResponseForm(Enum):
    """The forms that an answer can be held to."""

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
    """Part of what a model has written. `token_ids` are exactly the tokens of `text`; empty when they are not known."""

    text: str
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. None takes the model's default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    response_format: ResponseFormat | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What to generate. The answer goes on after `continuation`, which is never given again.

    `key` tells generations of this process apart. `generation_id` cannot: a peer that reconnects, or another one that
    takes over, may start the same id while the first is still being cancelled.
    """

    key: int
    generation_id: str
    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    continuation: tuple[GeneratedPiece, ...] = ()
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, counted by the engine.

    `prompt_tokens` includes the chat template, the continuation and the `cached_tokens`. `completion_tokens` is the sum
    of the deltas' `token_count`.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """How a generation ended; `error` is set when and only when `finish_reason` is ERROR."""

    finish_reason: FinishReason
    usage: Usage = Usage()
    error: DomainError | None = None
    queue_ms: float = 0.0


@dataclass(slots=True)
class Delta:
    """What is new of one generation. Not frozen: there is one per token, and a frozen one costs three times as much.

    `text` is whole characters and never the start of a stop string. `token_count` tokens are behind it; one that has
    only begun to be told is counted. So whoever continues after any number of deltas knows how many tokens they took.
    `token_ids` is either the ids of exactly the tokens of `text` or, where they are not known, empty.
    """

    generation_id: str
    text: str
    token_ids: list[int]
    token_count: int
    end: End | None = None


Sink = Callable[[Delta], None]
"""Takes the deltas of one generation, on the event loop. The last one, and only it, has `end`."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of texts, and upper bounds of what the chat template adds per message and once per prompt."""

    counts: tuple[int, ...]
    tokens_per_message: int
    tokens_per_prompt: int


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The live state of one model. Rates are over the last few seconds, the time to first token is an average."""

    name: str
    engine: str
    context_length: int
    running: int
    queued: int
    slots: int
    tokens_per_second: float
    time_to_first_token_ms: float


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """The live state of this process."""

    replica_id: str
    draining: bool
    models: tuple[LoadedModel, ...]
