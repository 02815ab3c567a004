"""A generation as the Inference service and its engines see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from services.runtime.errors import DomainError


class Role(Enum):
    """Who speaks; the values are what chat templates call them."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Capability(Enum):
    """What a model can do on the engine that runs it; the values are what the models file calls them."""

    CHAT = "chat"
    TOOLS = "tools"
    VISION = "vision"
    JSON = "json"
    LOGPROBS = "logprobs"
    LOGIT_BIAS = "logit_bias"
    PENALTIES = "penalties"
    EMBEDDINGS = "embeddings"


class Priority(IntEnum):
    """How urgent a generation is."""

    BACKGROUND = 1
    LOW = 2
    NORMAL = 3
    HIGH = 4


class FinishReason(Enum):
    """Why a generation ended; the values are what telemetry calls them."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asked for. `arguments` is JSON as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt. An assistant's may have calls; a tool's names the call that it answers."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""


class ToolMode(Enum):
    """Whether a model may, must or must not ask for tools; the values are OpenAI's."""

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
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids with what is added to their logits."""


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
    tools: ToolOptions | None = None
    """None when there are none, or when the model must not use them."""
    top_logprobs: int | None = None
    """When set, every token comes with its log-probability and this many of the likeliest ones."""
    confidence: bool = False
    """Whether deltas have `logprob_sum`. Engines without Capability.LOGPROBS ignore it."""
    priority: Priority = Priority.NORMAL
    queue_timeout_s: float | None = None
    """Longest wait for a place to run; None takes the replica's own bound."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """What a model thought of one token. `token` is its text as far as it is whole characters; logarithms are natural.

    `top` are the likeliest tokens at this place, the likeliest first.
    """

    token: str
    data: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """More of one call. `id` and `name` stand on its first delta only."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


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
    first_token_ms: float = 0.0
    """From its arrival to its first token; 0 without a token. The runner sets it, and `queue_ms`."""


@dataclass(slots=True)
class Delta:
    """What is new of one generation. Not frozen: there is one per token, and a frozen one costs three times as much.

    `text` is whole characters and never the start of a stop string. `token_count` tokens are behind it; one that has
    only begun to be told is counted. So whoever continues after any number of deltas knows how many tokens they took.
    `token_ids` is either the ids of exactly the tokens of `text` or, where they are not known, empty.
    `logprobs` has one for each of the `token_count` tokens when they were asked for; `logprob_sum` is their sum when
    confidence was asked for. `tool_calls` are no part of the text.
    """

    generation_id: str
    text: str
    token_ids: list[int]
    token_count: int
    end: End | None = None
    logprobs: Sequence[TokenLogprob] = ()
    tool_calls: Sequence[ToolCallDelta] = ()
    logprob_sum: float | None = None


Sink = Callable[[Delta], None]
"""Takes the deltas of one generation, on the event loop. The last one, and only it, has `end`."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of texts, and upper bounds of what the chat template adds per message and once per prompt."""

    counts: tuple[int, ...]
    tokens_per_message: int
    tokens_per_prompt: int


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of length 1, one per text, and what they took."""

    vectors: Sequence[Sequence[float]]
    prompt_tokens: int
    truncated: int = 0
    """Texts that were longer than the model's context, and of which the rest was left out."""


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What an engine says about itself; 0 where it does not say."""

    kv_cache_usage: float = 0.0
    """Share that is in use, 0 to 1."""
    kv_cache_hit_rate: float = 0.0
    """Share of recent prompts' tokens that were found in it, 0 to 1."""
    kv_blocks_stored: int = 0
    """Blocks that were kept for later prompts, since the start."""
    kv_blocks_removed: int = 0
    """Of those, the ones that had to go."""


@dataclass(frozen=True, slots=True)
class WaitingClass:
    """Generations of one priority that wait, and the average wait of those that have begun lately."""

    priority: Priority
    queued: int
    wait_ms: float


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The live state of one model. Rates are over the last few seconds; times and waits are moving averages."""

    name: str
    engine: str
    context_length: int
    running: int
    queued: int
    slots: int
    tokens_per_second: float
    time_to_first_token_ms: float
    capabilities: frozenset[Capability] = frozenset()
    kv_cache_usage: float = 0.0
    kv_cache_hit_rate: float = 0.0
    queue_wait_ms: float = 0.0
    """Of recent generations; part of the time to the first token."""
    waiting: tuple[WaitingClass, ...] = ()
    completed: int = 0
    """Generations that ended well since the process began, cancelled ones included."""
    failed: int = 0
    """Generations that the engine failed."""
    kv_blocks_stored: int = 0
    kv_blocks_removed: int = 0
    """As its engine says; since the process began."""


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """The live state of this process, and where it stands."""

    replica_id: str
    draining: bool
    models: tuple[LoadedModel, ...]
    pool: str = ""
    zone: str = ""
    region: str = ""
