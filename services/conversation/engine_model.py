"""What an engine is given and what it says, beside the text."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.conversation.chat_model import (
    ChatMessage,
    FinishReason,
    TokenLogprob,
    TokenUsage,
    ToolCallDelta,
    ToolOptions,
)
from services.conversation.route_model import Priority
from services.runtime.errors import DomainError


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model sees, and how many tokens are left for its answer."""

    messages: tuple[ChatMessage, ...]
    available_output_tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """What is asked of an engine beside how to sample."""

    tools: ToolOptions | None = None
    top_logprobs: int | None = None
    """When set, each token comes with its log-probability and this many of the likeliest at its place."""
    confidence: bool = False
    """Whether the engine shall say how sure the model was of what it wrote."""
    priority: Priority = Priority.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class TokenDetails:
    """What an engine says of tokens beside their text. `logprobs` has one for each token when they were asked for."""

    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprob_sum: float | None = None
    tokens: int = 0
    """Of how many tokens it is the sum."""


@dataclass(frozen=True, slots=True)
class EngineEnd:
    """How an engine ended; `error` when and only when the reason is ERROR. Times as in `RouteReceipt`."""

    reason: FinishReason
    usage: TokenUsage = field(default_factory=TokenUsage)
    error: DomainError | None = None
    queue_ms: float = 0.0
    first_token_ms: float = 0.0
