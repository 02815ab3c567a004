"""Reads a conversation of `conversations.json`, which ChatGPT exports.

Nobody describes that form; this is what its files have. A conversation has a `mapping` from the ids of nodes to nodes
`{id, message, parent, children}`, of which the first is empty, and a `current_node`. A message has an
`author.role` of system, user, assistant or tool, a `content` whose `content_type` says where its text stands, and
`metadata`. Times are Unix seconds and often missing. Much in it was never shown: settings, calls of tools and their
results, messages with the weight 0. That is left out, and what follows it then follows what came before.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from services.conversation.chat_model import FinishReason, Role
from services.conversation.model import MessageStatus
from services.conversation.transfer.imported import (
    MAX_MODEL,
    MAX_TITLE,
    BrokenConversationError,
    ImportedConversation,
    ImportedMessage,
    require_content,
    storable,
)
from services.conversation.transfer.ordering import order

_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT}
_ENDS = {
    "stop": (MessageStatus.COMPLETED, FinishReason.STOP),
    "max_tokens": (MessageStatus.COMPLETED, FinishReason.LENGTH),
    "interrupted": (MessageStatus.STOPPED, FinishReason.CANCELLED),
}
_EPOCH = datetime.fromtimestamp(0, UTC)


def read_chatgpt(source: Mapping[str, Any]) -> ImportedConversation:
    """A conversation as it is imported.

    It names no model: the models of ChatGPT are not ours. Each answer keeps the name of the one that wrote it.

    Raises:
        BrokenConversationError: when it is none, or has no message that can be imported.
    """
    mapping = source.get("mapping") if isinstance(source, dict) else None
    if not isinstance(mapping, dict):
        raise BrokenConversationError("It has no mapping of messages.")
    created_at = _time(source.get("create_time")) or _time(source.get("update_time")) or _EPOCH
    messages, parents, times = _nodes(mapping)
    if not messages:
        raise BrokenConversationError("It has no message that can be imported.")
    ordered = order(parents, times, frozenset(messages))
    kept: list[ImportedMessage] = []
    for id_, parent in zip(ordered.ids, ordered.parents, strict=True):
        since = kept[parent].created_at if parent >= 0 else created_at
        kept.append(_message(mapping[id_]["message"], id_, messages[id_], since))
    return ImportedConversation(
        source_id=_id_of(source, mapping),
        title=_name(source.get("title"))[:MAX_TITLE],
        created_at=created_at,
        updated_at=_time(source.get("update_time")) or max(message.created_at for message in kept),
        messages=kept,
        parents=ordered.parents,
        current=ordered.shown(source.get("current_node")),
        pinned=source.get("is_starred") is True,
        archived=source.get("is_archived") is True,
    )


def _nodes(mapping: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str | None], dict[str, float | None]]:
    """The texts of the messages that are kept; for every node the one above it; and when it was created."""
    texts: dict[str, str] = {}
    parents: dict[str, str | None] = {}
    times: dict[str, float | None] = {}
    for number, (id_, node) in enumerate(mapping.items(), 1):
        if not isinstance(node, dict):
            raise BrokenConversationError(f"Message {number} is no object.")
        parent = node.get("parent")
        parents[id_] = parent if isinstance(parent, str) and parent in mapping else None
        message = node.get("message")
        time = _time(message.get("create_time")) if isinstance(message, dict) else None
        times[id_] = time.timestamp() if time else None
        if isinstance(message, dict) and _is_shown(message):
            text = require_content(_text(message.get("content")), number)
            if text.strip():
                texts[id_] = text
    return texts, parents, times


def _is_shown(message: Mapping[str, Any]) -> bool:
    if _role(message) is None or message.get("weight") == 0:
        return False
    # An assistant that speaks to a tool does not speak to the user.
    if message.get("recipient") not in (None, "all"):
        return False
    return _mapping(message.get("metadata")).get("is_visually_hidden_from_conversation") is not True


def _role(message: Mapping[str, Any]) -> Role | None:
    role = _mapping(message.get("author")).get("role")
    return _ROLES.get(role) if isinstance(role, str) else None


def _text(content: object) -> str:
    """The text of a message: of its parts, those that are text or hold some; else its one text, as code has it."""
    source = _mapping(content)
    parts = source.get("parts")
    if not isinstance(parts, list):
        text = source.get("text")
        return text if isinstance(text, str) else ""
    # What was spoken has its words beside the sound.
    texts = [part if isinstance(part, str) else _mapping(part).get("text") for part in parts]
    return "\n\n".join(text for text in texts if isinstance(text, str) and text)


def _message(message: Mapping[str, Any], id_: str, text: str, since: datetime) -> ImportedMessage:
    role = _role(message) or Role.USER
    status, finish_reason = MessageStatus.COMPLETED, FinishReason.NONE
    metadata = _mapping(message.get("metadata"))
    model = ""
    if role is Role.ASSISTANT:
        end = _mapping(metadata.get("finish_details")).get("type")
        status, finish_reason = _ENDS.get(end if isinstance(end, str) else "stop", _ENDS["stop"])
        model = _name(metadata.get("model_slug"))[:MAX_MODEL]
    return ImportedMessage(
        source_id=id_,
        role=role,
        content=text,
        status=status,
        created_at=_time(message.get("create_time")) or since,
        model=model,
        finish_reason=finish_reason,
    )


def _id_of(source: Mapping[str, Any], mapping: Mapping[str, Any]) -> str:
    # Old files name no conversation, but the ids of its nodes are random.
    for id_ in (source.get("conversation_id"), source.get("id"), source.get("current_node")):
        if isinstance(id_, str) and id_:
            return id_
    return min(mapping)


def _time(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _name(value: object) -> str:
    return storable(value) if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
