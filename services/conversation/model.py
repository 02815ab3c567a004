"""What the Conversation service is about, without transport or storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.conversation.chat_model import FinishReason, Role, TokenUsage
from services.conversation.route_model import RouteReceipt
from services.conversation.tree import Path, Place


class MessageStatus(StrEnum):
    """What has become of a message."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    BLOCKED = "blocked"
    HELD = "held"


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
    pinned: bool = False
    archived: bool = False
    deleted_at: datetime | None = None
    purge_at: datetime | None = None
    """When a deleted conversation is gone for good."""
    current_message_id: str = ""
    """The newest message of the branch that is shown."""
    source_conversation_id: str = ""


class Rating(StrEnum):
    """What a user thinks of an answer."""

    NONE = ""
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Feedback:
    """A user's judgement of an answer. `reason` is the lower-case name of the contract's FeedbackReason, or empty."""

    rating: Rating
    reason: str
    comment: str
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
    depth: int = 0
    """Number of messages on the branch up to this one."""
    sibling_ids: tuple[str, ...] = ()
    """Itself and the other versions of it, oldest first; empty when there are no others."""
    feedback: Feedback | None = None
    cleared: bool = False
    """Whether a person has let it pass after moderation had refused it."""


class ConversationOrder(StrEnum):
    """In which order conversations are listed."""

    UPDATED = "updated"
    CREATED = "created"


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A title or a message with the words. `message_id` is empty and `role` None for a title."""

    conversation: Conversation
    message_id: str
    role: Role | None
    created_at: datetime
    snippet: str
    highlights: tuple[tuple[int, int], ...]
    """Ranges of the snippet in code points, the end exclusive."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user has set."""

    custom_instructions: str = ""
    default_model: str = ""
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """A link to a snapshot of a conversation."""

    token: str
    conversation_id: str
    message_id: str
    title: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Alias:
    """A second name that stands for one of several models."""

    name: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of length 1, one per text, and the tokens of all texts; `truncated` counts texts that were too long."""

    vectors: tuple[tuple[float, ...], ...]
    prompt_tokens: int
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class CategoryScore:
    """What the content policy makes of a text in one category: whether it would act, and how sure it is."""

    flagged: bool
    score: float


@dataclass(frozen=True, slots=True)
class Classification:
    """What the content policy makes of a text, by category."""

    flagged: bool
    categories: Mapping[str, CategoryScore]


@dataclass(frozen=True, slots=True)
class Classified:
    """What the content policy makes of texts, in their order."""

    results: tuple[Classification, ...]
    classifier_version: str


class GenerationState(StrEnum):
    """What has become of a generation."""

    OPEN = "open"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer on its way, or that was. `epoch` counts the servers that have run it."""

    id: str
    conversation_id: str
    user_message_id: str
    message_id: str
    state: GenerationState
    epoch: int
    requested_model: str
    created_at: datetime
    finished_at: datetime | None
    revised: bool = False
    """Whether it ended, and a late verdict of moderation has changed the answer since."""


class TurnKind(StrEnum):
    """What begins a turn."""

    SEND = "send"
    EDIT = "edit"
    REGENERATE = "regenerate"


@dataclass(frozen=True, slots=True)
class TurnTarget:
    """Where in the tree a turn stands."""

    kind: TurnKind = TurnKind.SEND
    message_id: str = ""
    """The message to follow, empty for the newest shown; the user's message to edit; the one to answer anew."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """The end of the branch that is shown. No id before the first message."""

    message_id: str = ""
    place: Place = field(default_factory=lambda: Place(0, 0))


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
    custom_instructions: str = ""
    path: Path = field(default_factory=Path)
    """The way to the branch of the user's message."""
    epoch: int = 1
    own_question: bool = True
    """Whether the user's message was written by this turn; when an answer is generated anew it was there before."""
    previous_leaf: Leaf = field(default_factory=Leaf)
    """What was shown before the turn began, and is again when it is discarded."""
    opened_branch: int | None = None
    """The branch that was opened for this turn."""
    residency: str = ""
    """Where the user's data must stay; empty for anywhere."""
    tenant_id: str = ""
    """Whom the user belongs to; empty for nobody."""
    affinity_id: str = ""
    """The conversation that this one was forked from first; empty when it was not."""
    last_replica_id: str = ""
    """The replica that answered last."""


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
