"""Conversations as Markdown, for people: of each the branch that is shown, texts as they are."""

from __future__ import annotations

from services.conversation.chat_model import Role
from services.conversation.model import Conversation, Message, MessageStatus

CONTENT_TYPE = "text/markdown; charset=utf-8"

_SPEAKERS = {Role.USER: "User", Role.ASSISTANT: "Assistant", Role.SYSTEM: "System"}


class MarkdownExport:
    """Writes conversations piece by piece."""

    def __init__(self) -> None:
        self._conversations = 0

    def begin(self) -> str:
        """Opens the file."""
        return ""

    def open(self, conversation: Conversation) -> str:
        """Opens a conversation."""
        separator = "---\n\n" if self._conversations else ""
        self._conversations += 1
        # A heading is one line.
        title = " ".join(conversation.title.split()) or "Untitled conversation"
        return f"{separator}# {title}\n\n{conversation.created_at:%Y-%m-%d %H:%M} UTC\n\n"

    def message(self, message: Message) -> str:
        """A message of the conversation that is open."""
        notes = [message.model] if message.model else []
        if message.status is not MessageStatus.COMPLETED:
            notes.append(message.status.value.replace("_", " "))
        heading = _SPEAKERS[message.role] + (f" ({', '.join(notes)})" if notes else "")
        return f"## {heading}\n\n{message.content}\n\n"

    def close(self) -> str:
        """Closes the conversation that is open."""
        return ""

    def end(self) -> str:
        """Closes the file."""
        return ""
