"""Between chat messages in the contracts and in the model."""

from __future__ import annotations

from chatmesh.type.v1 import chat_pb2
from services.conversation.chat_model import ChatMessage, ToolCall
from services.conversation.convert import ROLE_TO_PB

_ROLE_FROM = {value: key for key, value in ROLE_TO_PB.items()}


def chat_message_to_pb(message: ChatMessage) -> chat_pb2.ChatMessage:
    """As sent."""
    pb = chat_pb2.ChatMessage(role=ROLE_TO_PB[message.role], content=message.content)
    if message.tool_calls or message.tool_call_id or message.name:
        pb.tool_call_id = message.tool_call_id
        pb.name = message.name
        for call in message.tool_calls:
            pb.tool_calls.add(id=call.id, name=call.name, arguments=call.arguments)
    return pb


def chat_message_from_pb(pb: chat_pb2.ChatMessage) -> ChatMessage:
    """As received."""
    return ChatMessage(
        role=_ROLE_FROM[pb.role],
        content=pb.content,
        tool_calls=tuple(ToolCall(call.id, call.name, call.arguments) for call in pb.tool_calls),
        tool_call_id=pb.tool_call_id,
        name=pb.name,
    )
