"""What the public API is asked, as values of the model."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf import timestamp_pb2

from chatmesh.conversation.v1 import conversation_pb2, conversation_service_pb2
from chatmesh.type.v1 import chat_pb2
from services.conversation.chat_model import ChatMessage, Role
from services.conversation.convert import ROLE_TO_PB, conversation_to_pb, sampling_from_pb, timestamp
from services.conversation.model import ConversationOrder, Rating, SearchHit, TurnKind, TurnTarget
from services.conversation.turn import TurnRequest

_ROLES = {value: role for role, value in ROLE_TO_PB.items()}
_RATINGS = {conversation_pb2.RATING_UP: Rating.UP, conversation_pb2.RATING_DOWN: Rating.DOWN}


def turn_from_send(request: conversation_service_pb2.SendMessageRequest) -> TurnRequest:
    """A message at the end of a branch."""
    return TurnRequest(
        conversation_id=request.conversation_id,
        content=request.content,
        model=request.model,
        sampling=sampling_from_pb(request.sampling),
        request_id=request.request_id,
        target=TurnTarget(TurnKind.SEND, request.parent_id),
        queue=_queues(request.on_busy),
    )


def turn_from_edit(request: conversation_service_pb2.EditMessageRequest) -> TurnRequest:
    """Another version of a message."""
    return TurnRequest(
        conversation_id=request.conversation_id,
        content=request.content,
        model=request.model,
        sampling=sampling_from_pb(request.sampling),
        request_id=request.request_id,
        target=TurnTarget(TurnKind.EDIT, request.message_id),
        queue=_queues(request.on_busy),
    )


def turn_from_regenerate(request: conversation_service_pb2.RegenerateMessageRequest) -> TurnRequest:
    """Another answer."""
    return TurnRequest(
        conversation_id=request.conversation_id,
        content="",
        model=request.model,
        sampling=sampling_from_pb(request.sampling),
        request_id=request.request_id,
        target=TurnTarget(TurnKind.REGENERATE, request.message_id),
        queue=_queues(request.on_busy),
    )


def chat_message_from_pb(message: chat_pb2.ChatMessage) -> ChatMessage:
    """A message of a chat that the client holds. A role that is not known is that of the system, which is refused."""
    return ChatMessage(_ROLES.get(message.role, Role.SYSTEM), message.content)


def _queues(on_busy: int) -> bool:
    return on_busy == int(conversation_service_pb2.ON_BUSY_QUEUE)


def newest_first(order: int) -> bool:
    """Whether an order of messages says so."""
    return order == int(conversation_service_pb2.MESSAGE_ORDER_NEWEST_FIRST)


def order_from_pb(order: int) -> ConversationOrder:
    """An order of conversations."""
    created = order == int(conversation_service_pb2.CONVERSATION_ORDER_CREATED)
    return ConversationOrder.CREATED if created else ConversationOrder.UPDATED


def rating_from_pb(rating: conversation_pb2.Rating) -> Rating:
    """A judgement."""
    return _RATINGS.get(rating, Rating.NONE)


def feedback_reason_from_pb(reason: conversation_pb2.FeedbackReason) -> str:
    """The lower-case name of a reason; empty when none is given."""
    if reason == conversation_pb2.FEEDBACK_REASON_UNSPECIFIED:
        return ""
    return conversation_pb2.FeedbackReason.Name(reason).removeprefix("FEEDBACK_REASON_").lower()


def search_hit_to_pb(hit: SearchHit) -> conversation_service_pb2.SearchResult:
    """As sent."""
    return conversation_service_pb2.SearchResult(
        conversation=conversation_to_pb(hit.conversation),
        message_id=hit.message_id,
        role=ROLE_TO_PB[hit.role] if hit.role else None,
        create_time=timestamp(hit.created_at),
        snippet=hit.snippet,
        highlights=[conversation_service_pb2.Highlight(start=start, end=end) for start, end in hit.highlights],
    )


def time_from_pb(time: timestamp_pb2.Timestamp) -> datetime:
    """As received."""
    return time.ToDatetime(UTC)
