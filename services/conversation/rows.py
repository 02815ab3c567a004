"""Rows of the schema `conversation` as values of the model."""

from __future__ import annotations

from typing import LiteralString

from services.conversation.chat_model import FinishReason, Role, TokenUsage
from services.conversation.convert import error_from_json
from services.conversation.model import Conversation, Message, MessageStatus
from services.conversation.route_convert import route_from_json
from services.runtime.database import Row

CONVERSATION: LiteralString = (
    "id, title, model, system_prompt, last_sequence, created_at, updated_at, pinned, archived, deleted_at, purge_at, "
    "leaf_message_id, source_conversation_id"
)
"""Columns that `conversation_from` reads."""
MESSAGE: LiteralString = (
    "id, conversation_id, parent_id, role, content, status, sequence, created_at, generation_id, model, "
    "finish_reason, prompt_tokens, completion_tokens, cached_tokens, route, error, depth, cleared"
)
"""Columns that `message_from` reads."""


def conversation_from(row: Row) -> Conversation:
    """A row of `CONVERSATION`."""
    return Conversation(
        id=str(row[0]),
        title=row[1],
        model=row[2],
        system_prompt=row[3],
        message_count=row[4],
        created_at=row[5],
        updated_at=row[6],
        pinned=row[7],
        archived=row[8],
        deleted_at=row[9],
        purge_at=row[10],
        current_message_id=str(row[11] or ""),
        source_conversation_id=str(row[12] or ""),
    )


def message_from(row: Row) -> Message:
    """A row of `MESSAGE`."""
    return Message(
        id=str(row[0]),
        conversation_id=str(row[1]),
        parent_id=str(row[2] or ""),
        role=Role(row[3]),
        content=row[4],
        status=MessageStatus(row[5]),
        sequence=row[6],
        created_at=row[7],
        generation_id=str(row[8]),
        model=row[9],
        finish_reason=FinishReason(row[10]),
        usage=TokenUsage(row[11], row[12], row[13]) if row[11] is not None else None,
        route=route_from_json(row[14]) if row[14] else None,
        error=error_from_json(row[15]) if row[15] else None,
        depth=row[16],
        cleared=row[17],
    )
