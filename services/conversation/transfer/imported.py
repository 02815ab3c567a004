"""What a file to import holds, whatever its form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.conversation.chat_model import FinishReason, Role, TokenUsage
from services.conversation.model import ErrorSummary, Feedback, MessageStatus

MAX_CONTENT = 1_000_000
"""Greatest length of a message, in characters."""
MAX_TITLE = 256
MAX_SYSTEM_PROMPT = 32_000
MAX_MODEL = 128

# No database text can hold a NUL, no UTF-8 a half of a surrogate pair.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class BrokenConversationError(Exception):
    """A conversation of a file cannot be imported. The text is for the user, and holds nothing of the conversation."""


@dataclass(frozen=True, slots=True)
class ImportedMessage:
    """A message of a file, before it has a place."""

    source_id: str
    role: Role
    content: str
    status: MessageStatus
    created_at: datetime
    model: str = ""
    finish_reason: FinishReason = FinishReason.NONE
    usage: TokenUsage | None = None
    error: ErrorSummary | None = None
    feedback: Feedback | None = None


@dataclass(frozen=True, slots=True)
class ImportedConversation:
    """A conversation of a file. `messages` stand in the order of creation, each after the one it follows."""

    source_id: str
    title: str
    created_at: datetime
    updated_at: datetime
    messages: Sequence[ImportedMessage]
    parents: Sequence[int]
    """For each message the index of the one it follows; -1 for none."""
    current: int
    """Index of the newest message that is shown; -1 when there are no messages."""
    model: str = ""
    system_prompt: str = ""
    pinned: bool = False
    archived: bool = False


def storable(text: str) -> str:
    """The text with U+FFFD for what cannot be stored."""
    return _UNSTORABLE.sub("\ufffd", text)


def text_of(source: Mapping[str, Any], key: str, *, longest: int) -> str:
    """A text of a conversation; empty when it is not there.

    Raises:
        BrokenConversationError: when it is no text, or too long.
    """
    value = source.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BrokenConversationError(f"Its {key} is no text.")
    if len(value) > longest:
        raise BrokenConversationError(f"Its {key} is longer than {longest} characters.")
    return storable(value)


def require_content(content: str, number: int) -> str:
    """The text of a message, as it can be stored.

    Raises:
        BrokenConversationError: when it is too long.
    """
    if len(content) > MAX_CONTENT:
        raise BrokenConversationError(f"Message {number} is longer than {MAX_CONTENT} characters.")
    return storable(content)


def title_of(source: object) -> str:
    """The title of what stands in a file for a conversation, as far as it can be read."""
    title = source.get("title") if isinstance(source, dict) else None
    return storable(title) if isinstance(title, str) else ""
