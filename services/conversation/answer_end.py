"""How an answer may end, or not yet: with an outcome, without an engine, or too weak to be shown."""

from __future__ import annotations

from dataclasses import dataclass

from services.conversation.chat_model import FinishReason, TokenUsage
from services.conversation.model import MessageStatus
from services.runtime.errors import DomainError, Reason

STATUS = {
    FinishReason.CANCELLED: MessageStatus.STOPPED,
    FinishReason.CONTENT_FILTER: MessageStatus.BLOCKED,
    FinishReason.ERROR: MessageStatus.FAILED,
}
"""What becomes of an answer by how it ended; of the others, completed."""
REFUSED = {Reason.CONTENT_BLOCKED: MessageStatus.BLOCKED, Reason.CONTENT_HELD: MessageStatus.HELD}
"""What becomes of a text that moderation refuses, by what it says of it."""


def status_of(reason: FinishReason, error: DomainError | None) -> MessageStatus:
    """What becomes of an answer."""
    if error is not None and error.reason in REFUSED:
        return REFUSED[error.reason]
    return STATUS.get(reason, MessageStatus.COMPLETED)


WITH_CALLS = {FinishReason.TOOL_CALLS, FinishReason.STOP, FinishReason.LENGTH}
"""Ends of an answer that may ask for tools."""
RECOVERABLE = {
    Reason.ENGINE_FAILED,
    Reason.OVERLOADED,
    Reason.DRAINING,
    Reason.NO_REPLICA,
    Reason.DEPENDENCY_UNAVAILABLE,
}
"""Errors of an engine that another one may not have."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The engine is gone, and the answer is not complete."""

    error: DomainError


@dataclass(frozen=True, slots=True)
class Weak:
    """The beginning of the answer, of which nothing was shown, asks for a stronger model. `usage` is what it took."""

    usage: TokenUsage
