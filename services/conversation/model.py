"""What the Conversation service is about, without transport or storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


class MessageStatus(StrEnum):
    """What has become of a message."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    BLOCKED = "blocked"


class FinishReason(StrEnum):
    """Why an answer ended."""

    NONE = ""
    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    CONTENT_FILTER = "content_filter"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message as a model sees it."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample; None takes the model's default."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens that an answer took, as the engine counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica that could have answered."""

    model: str
    replica_id: str
    score: float
    in_flight: int


@dataclass(frozen=True, slots=True)
class RouteReceipt:
    """Why an answer was generated where it was."""

    requested_model: str
    model: str
    engine: str
    replica_id: str
    rule: str
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorSummary:
    """An error beside a stored message or inside a stream. `code` is a gRPC status name."""

    code: str
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None
    """When to try again; said to who waits now, and not stored."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of one user."""

    id: str
    title: str
    model: str
    system_prompt: str
    message_count: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    id: str
    conversation_id: str
    parent_id: str
    role: Role
    content: str
    status: MessageStatus
    sequence: int
    created_at: datetime
    generation_id: str = ""
    model: str = ""
    finish_reason: FinishReason = FinishReason.NONE
    usage: TokenUsage | None = None
    route: RouteReceipt | None = None
    error: ErrorSummary | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the registry, as far as a turn needs it. Lengths in tokens, `created` in Unix seconds."""

    name: str
    context_length: int
    max_output_tokens: int
    default_system_prompt: str
    created: int = 0
    tiers: tuple[str, ...] = ()
    """Tiers that may use it; empty means all."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a generation runs."""

    address: str
    replica_id: str
    model: Model
    receipt: RouteReceipt


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model sees, and how many tokens are left for its answer."""

    messages: tuple[ChatMessage, ...]
    available_output_tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class OpenTurn:
    """A turn that is stored and not yet answered."""

    generation_id: str
    user_id: str
    tier: str
    conversation_id: str
    user_message: Message
    answer_id: str
    answer_sequence: int
    model: str
    """Model or alias that was asked for."""
    system_prompt: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an answer ended: what is stored and what the terminal event says."""

    status: MessageStatus
    finish_reason: FinishReason
    content: str
    usage: TokenUsage
    error: ErrorSummary | None = None


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What one generation used, for the Usage service."""

    generation_id: str
    user_id: str
    tier: str
    conversation_id: str
    model: str
    usage: TokenUsage
    finish_reason: FinishReason
    ended_at: datetime
