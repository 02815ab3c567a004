"""Reads a conversation of our own export; `export_json` describes the form."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from services.conversation.chat_model import FinishReason, Role, TokenUsage
from services.conversation.model import ErrorSummary, Feedback, MessageStatus, Rating
from services.conversation.transfer.imported import (
    MAX_MODEL,
    MAX_SYSTEM_PROMPT,
    MAX_TITLE,
    BrokenConversationError,
    ImportedConversation,
    ImportedMessage,
    require_content,
    storable,
    text_of,
)
from services.conversation.transfer.ordering import order

MAX_TOKENS = 2**31 - 1
MAX_COMMENT = 4000
MAX_ERROR_TEXT = 2000
_NAME = 64

E = TypeVar("E", bound=StrEnum)


def read_own(source: Mapping[str, Any]) -> ImportedConversation:
    """A conversation as it is imported. An answer that was being written at the time is left out.

    Raises:
        BrokenConversationError: when it is none.
    """
    if not isinstance(source, dict):
        raise BrokenConversationError("It is no object.")
    source_id = text_of(source, "id", longest=_NAME)
    if not source_id:
        raise BrokenConversationError("It has no id.")
    entries = source.get("messages")
    if not isinstance(entries, list):
        raise BrokenConversationError("It has no list of messages.")
    created_at = _time(source, "created_at")
    updated_at = _time(source, "updated_at")
    parents, kept = _tree(entries)
    # The list is in the order of creation; the clocks of several servers need not agree with it.
    ordered = order(parents, {id_: float(index) for index, id_ in enumerate(parents)}, frozenset(kept))
    return ImportedConversation(
        source_id=source_id,
        title=text_of(source, "title", longest=MAX_TITLE),
        created_at=created_at,
        updated_at=updated_at,
        messages=[kept[id_] for id_ in ordered.ids],
        parents=ordered.parents,
        current=ordered.shown(source.get("current_message_id")),
        model=text_of(source, "model", longest=MAX_MODEL),
        system_prompt=text_of(source, "system_prompt", longest=MAX_SYSTEM_PROMPT),
        pinned=source.get("pinned") is True,
        archived=source.get("archived") is True,
    )


def _tree(entries: list[Any]) -> tuple[dict[str, str | None], dict[str, ImportedMessage]]:
    """Whom each message follows, and those that are kept."""
    parents: dict[str, str | None] = {}
    kept: dict[str, ImportedMessage] = {}
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise BrokenConversationError(f"Message {number} is no object.")
        id_, parent = entry.get("id"), entry.get("parent_id") or None
        if not isinstance(id_, str) or not isinstance(parent, str | None):
            raise BrokenConversationError(f"The id of message {number}, or of the one it follows, is no text.")
        if id_ in parents:
            raise BrokenConversationError(f"Message {number} has the id of another.")
        parents[id_] = parent
        message = _message(entry, id_, number)
        if message.status is not MessageStatus.IN_PROGRESS:
            kept[id_] = message
    if any(parent is not None and parent not in parents for parent in parents.values()):
        raise BrokenConversationError("A message follows one that is not there.")
    return parents, kept


def _message(entry: Mapping[str, Any], id_: str, number: int) -> ImportedMessage:
    role = _choice(entry, "role", Role, number)
    if role is Role.SYSTEM:
        raise BrokenConversationError(f"Message {number} is of neither the user nor the model.")
    content = entry.get("content")
    if not isinstance(content, str):
        raise BrokenConversationError(f"Message {number} has no text.")
    return ImportedMessage(
        source_id=id_,
        role=role,
        content=require_content(content, number),
        status=_choice(entry, "status", MessageStatus, number),
        created_at=_time(entry, "created_at"),
        model=text_of(entry, "model", longest=MAX_MODEL),
        finish_reason=_choice(entry, "finish_reason", FinishReason, number),
        usage=_usage(entry.get("usage"), number),
        error=_error(entry.get("error")),
        # Nobody judges their own question.
        feedback=_feedback(entry.get("feedback"), number) if role is Role.ASSISTANT else None,
    )


def _choice(entry: Mapping[str, Any], key: str, choices: type[E], number: int) -> E:
    try:
        return choices(entry.get(key, ""))
    except ValueError:
        raise BrokenConversationError(f"Message {number} has an unknown {key}.") from None


def _time(source: Mapping[str, Any], key: str) -> datetime:
    try:
        time = datetime.fromisoformat(source.get(key, ""))
    except (TypeError, ValueError):
        raise BrokenConversationError(f"A {key} is no time in ISO 8601.") from None
    if time.tzinfo is None:
        raise BrokenConversationError(f"A {key} has no time zone.")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise BrokenConversationError(f"A {key} is out of range.") from None


def _usage(value: object, number: int) -> TokenUsage | None:
    if value is None:
        return None
    names = ("prompt_tokens", "completion_tokens", "cached_tokens")
    counts = [value.get(name) if isinstance(value, dict) else None for name in names]
    # Neither a bool, which is an int to Python, nor what the database cannot hold.
    if not all(type(count) is int and 0 <= count <= MAX_TOKENS for count in counts):
        raise BrokenConversationError(f"The usage of message {number} is none.")
    return TokenUsage(*(int(count) for count in counts if count is not None))


def _error(value: object) -> ErrorSummary | None:
    if not isinstance(value, dict):
        return None
    metadata = value.get("metadata")
    return ErrorSummary(
        code=text_of(value, "code", longest=_NAME),
        reason=text_of(value, "reason", longest=_NAME),
        message=text_of(value, "message", longest=MAX_ERROR_TEXT),
        metadata={
            storable(key): storable(text)[:MAX_ERROR_TEXT]
            for key, text in (metadata if isinstance(metadata, dict) else {}).items()
            if isinstance(text, str)
        },
    )


def _feedback(value: object, number: int) -> Feedback | None:
    if not isinstance(value, dict):
        return None
    rating = _choice(value, "rating", Rating, number)
    if rating is Rating.NONE:
        return None
    reason = text_of(value, "reason", longest=_NAME)
    return Feedback(
        rating=rating,
        reason=reason if reason in FEEDBACK_REASONS else "other" if reason else "",
        comment=text_of(value, "comment", longest=MAX_COMMENT),
        updated_at=_time(value, "updated_at"),
    )


FEEDBACK_REASONS = frozenset(
    ("correct", "clear", "complete", "incorrect", "not_followed", "unsafe", "refused", "style", "other")
)
"""The names that the contract's FeedbackReason has in lower case; a test holds the two together."""
