"""Conversations as JSON.

    {"format": "chatmesh.conversations", "version": 1, "exported_at": TIME,
     "conversations": [
       {"id": UUID, "title": TEXT, "model": TEXT, "system_prompt": TEXT, "pinned": BOOL, "archived": BOOL,
        "created_at": TIME, "updated_at": TIME, "current_message_id": UUID or "",
        "messages": [
          {"id": UUID, "parent_id": UUID or "", "role": "user" or "assistant", "content": TEXT,
           "status": "completed", "stopped", "failed", "blocked", "held" or "in_progress",
           "model": TEXT, "created_at": TIME,
           "finish_reason": "", "stop", "length", "cancelled", "content_filter" or "error",
           "usage": null or {"prompt_tokens": INT, "completion_tokens": INT, "cached_tokens": INT},
           "error": null or {"code": TEXT, "reason": TEXT, "message": TEXT, "metadata": {TEXT: TEXT}},
           "feedback": null or {"rating": "up" or "down", "reason": TEXT, "comment": TEXT, "updated_at": TIME}}]}]}

TIME is ISO 8601 with a zone. The messages of a conversation are all of its tree, in the order of their creation:
`parent_id` is the message that one follows, empty for a first one, and `current_message_id` the newest of the branch
that is shown. `model` of a conversation may be an alias, or empty for `auto`; of a message it is the one that wrote it.
Conversations come newest first. New members may be added to any object without a new version.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from services.conversation.convert import error_to_json
from services.conversation.model import Conversation, Message

FORMAT = "chatmesh.conversations"
VERSION = 1
CONTENT_TYPE = "application/json"


class JsonExport:
    """Writes conversations piece by piece."""

    def __init__(self, *, exported_at: datetime) -> None:
        self._exported_at = exported_at
        self._conversations = 0
        self._messages = 0

    def begin(self) -> str:
        """Opens the file."""
        header = {"format": FORMAT, "version": VERSION, "exported_at": self._exported_at.isoformat()}
        return f'{_json(header)[:-1]}, "conversations": ['

    def open(self, conversation: Conversation) -> str:
        """Opens a conversation."""
        separator = ",\n" if self._conversations else "\n"
        self._conversations += 1
        self._messages = 0
        return f'{separator}{_json(_conversation(conversation))[:-1]}, "messages": ['

    def message(self, message: Message) -> str:
        """A message of the conversation that is open."""
        separator = ",\n " if self._messages else "\n "
        self._messages += 1
        return separator + _json(_message(message))

    def close(self) -> str:
        """Closes the conversation that is open."""
        return "]}"

    def end(self) -> str:
        """Closes the file."""
        return "]}\n"


def _conversation(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "title": conversation.title,
        "model": conversation.model,
        "system_prompt": conversation.system_prompt,
        "pinned": conversation.pinned,
        "archived": conversation.archived,
        "created_at": conversation.created_at.isoformat(),
        "updated_at": conversation.updated_at.isoformat(),
        "current_message_id": conversation.current_message_id,
    }


def _message(message: Message) -> dict[str, Any]:
    usage, feedback = message.usage, message.feedback
    return {
        "id": message.id,
        "parent_id": message.parent_id,
        "role": message.role.value,
        "content": message.content,
        "status": message.status.value,
        "model": message.model,
        "created_at": message.created_at.isoformat(),
        "finish_reason": message.finish_reason.value,
        "usage": None
        if usage is None
        else {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
        },
        "error": None if message.error is None else error_to_json(message.error),
        "feedback": None
        if feedback is None
        else {
            "rating": feedback.rating.value,
            "reason": feedback.reason,
            "comment": feedback.comment,
            "updated_at": feedback.updated_at.isoformat(),
        },
    }


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
