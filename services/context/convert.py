"""Between Context's words and its contracts."""

from __future__ import annotations

from collections.abc import Sequence

from chatmesh.context.v1 import context_service_pb2
from chatmesh.inference.v1 import inference_service_pb2
from chatmesh.type.v1 import chat_pb2
from services.context.model import (
    Answer,
    Assembled,
    ChatMessage,
    HistoryMessage,
    HistoryWanted,
    Page,
    Role,
    Said,
    Start,
    Target,
    TemplateOverhead,
    ToolCall,
)
from services.context.tokens import Counts
from services.runtime.errors import DomainError, FieldViolation, Reason

_ROLES = {
    chat_pb2.ROLE_SYSTEM: Role.SYSTEM,
    chat_pb2.ROLE_USER: Role.USER,
    chat_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    chat_pb2.ROLE_TOOL: Role.TOOL,
}
_ROLES_ON_THE_WIRE = {role: value for value, role in _ROLES.items()}


def said_from(request: context_service_pb2.AssembleContextRequest) -> Said:
    """What the caller says.

    Raises:
        DomainError: PROTOCOL_VIOLATION when it says nothing, INVALID_FIELD when a role is unknown.
    """
    match request.WhichOneof("request"):
        case "start":
            start = request.start
            return Start(
                system_prompt=start.system_prompt,
                user_message=start.user_message,
                first_page=_page_from(start.first_page) if start.HasField("first_page") else None,
                custom_instructions=start.custom_instructions,
                beside_messages=start.beside_messages,
            )
        case "target":
            target = request.target
            return Target(
                model=target.model,
                context_length=target.context_length,
                reserved_output_tokens=target.reserved_output_tokens,
                tokenizer_address=target.tokenizer_address,
                default_system_prompt=target.default_system_prompt,
            )
        case "history_page":
            return _page_from(request.history_page)
        case _:
            raise DomainError(
                Reason.PROTOCOL_VIOLATION,
                "The message says nothing: set `start`, `target` or `history_page`.",
                metadata={"expected": "start, target, history_page"},
            )


def _page_from(page: context_service_pb2.HistoryPage) -> Page:
    return Page(messages=tuple(_history_from(entry) for entry in page.messages), exhausted=page.exhausted)


def answer_to(answer: Answer) -> context_service_pb2.AssembleContextResponse:
    """What the service answers."""
    match answer:
        case HistoryWanted(max_messages):
            return context_service_pb2.AssembleContextResponse(
                history_request=context_service_pb2.HistoryRequest(max_messages=max_messages)
            )
        case Assembled():
            return context_service_pb2.AssembleContextResponse(assembled=_assembled_to(answer))


def count_request(model: str, texts: Sequence[str]) -> inference_service_pb2.CountTokensRequest:
    """Asks for the tokens of texts."""
    return inference_service_pb2.CountTokensRequest(model=model, texts=texts)


def counts_from(response: inference_service_pb2.CountTokensResponse) -> Counts:
    """What the tokenizer said."""
    return Counts(
        tokens=tuple(response.counts),
        overhead=TemplateOverhead(per_message=response.tokens_per_message, per_prompt=response.tokens_per_prompt),
    )


def _history_from(entry: context_service_pb2.HistoryMessage) -> HistoryMessage:
    said = entry.message
    role = _ROLES.get(said.role)
    if role is None:
        text = "is not a role that this service knows"
        raise DomainError(
            Reason.INVALID_FIELD,
            f"history_page.messages.message.role: {text}",
            fields=[FieldViolation("history_page.messages.message.role", text)],
        )
    calls = tuple(ToolCall(call.id, call.name, call.arguments) for call in said.tool_calls)
    return HistoryMessage(
        id=entry.id,
        message=ChatMessage(role, said.content, tool_calls=calls, tool_call_id=said.tool_call_id, name=said.name),
    )


def _message_to(message: ChatMessage) -> chat_pb2.ChatMessage:
    return chat_pb2.ChatMessage(
        role=_ROLES_ON_THE_WIRE[message.role],
        content=message.content,
        tool_calls=[chat_pb2.ToolCall(id=c.id, name=c.name, arguments=c.arguments) for c in message.tool_calls],
        tool_call_id=message.tool_call_id,
        name=message.name,
    )


def _assembled_to(assembled: Assembled) -> context_service_pb2.AssembledContext:
    return context_service_pb2.AssembledContext(
        messages=[_message_to(message) for message in assembled.messages],
        prompt_tokens=assembled.prompt_tokens,
        oldest_message_id=assembled.oldest_message_id,
        truncated=assembled.truncated,
        available_output_tokens=assembled.available_output_tokens,
    )
