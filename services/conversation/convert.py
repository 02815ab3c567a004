"""Between the public contract, the database's JSON, and the model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf import timestamp_pb2

from chatmesh.conversation.v1 import conversation_pb2, generation_event_pb2
from chatmesh.type.v1 import chat_pb2
from services.conversation.chat_model import FinishReason, ResponseForm, ResponseFormat, Role, Sampling, TokenUsage
from services.conversation.generation_log import (
    Completed,
    Delta,
    Entry,
    Failed,
    Notice,
    NoticeKind,
    Retracted,
    Started,
)
from services.conversation.model import Conversation, ErrorSummary, Feedback, Message, MessageStatus, Rating
from services.conversation.route_convert import route_from_pb, route_to_pb
from services.runtime.errors import DomainError, Reason

ROLE_TO_PB = {
    Role.SYSTEM: chat_pb2.ROLE_SYSTEM,
    Role.USER: chat_pb2.ROLE_USER,
    Role.ASSISTANT: chat_pb2.ROLE_ASSISTANT,
    Role.TOOL: chat_pb2.ROLE_TOOL,
}
FINISH_TO_PB = {
    FinishReason.NONE: chat_pb2.FINISH_REASON_UNSPECIFIED,
    FinishReason.STOP: chat_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: chat_pb2.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: chat_pb2.FINISH_REASON_CANCELLED,
    FinishReason.CONTENT_FILTER: chat_pb2.FINISH_REASON_CONTENT_FILTER,
    FinishReason.ERROR: chat_pb2.FINISH_REASON_ERROR,
    FinishReason.TOOL_CALLS: chat_pb2.FINISH_REASON_TOOL_CALLS,
}
_STATUS = {
    MessageStatus.IN_PROGRESS: conversation_pb2.MESSAGE_STATUS_IN_PROGRESS,
    MessageStatus.COMPLETED: conversation_pb2.MESSAGE_STATUS_COMPLETED,
    MessageStatus.STOPPED: conversation_pb2.MESSAGE_STATUS_STOPPED,
    MessageStatus.FAILED: conversation_pb2.MESSAGE_STATUS_FAILED,
    MessageStatus.BLOCKED: conversation_pb2.MESSAGE_STATUS_BLOCKED,
    MessageStatus.HELD: conversation_pb2.MESSAGE_STATUS_HELD,
}

_RATINGS = {
    Rating.NONE: conversation_pb2.RATING_UNSPECIFIED,
    Rating.UP: conversation_pb2.RATING_UP,
    Rating.DOWN: conversation_pb2.RATING_DOWN,
}

_ROLE_FROM = {value: role for role, value in ROLE_TO_PB.items()}
_FINISH_FROM = {value: reason for reason, value in FINISH_TO_PB.items()}
_STATUS_FROM = {value: status for status, value in _STATUS.items()}
NOTICE_TO_PB = {
    NoticeKind.RESUME_UNAVAILABLE: generation_event_pb2.NOTICE_KIND_RESUME_UNAVAILABLE,
    NoticeKind.RESUME_AVAILABLE: generation_event_pb2.NOTICE_KIND_RESUME_AVAILABLE,
    NoticeKind.ENGINE_REPLACED: generation_event_pb2.NOTICE_KIND_ENGINE_REPLACED,
    NoticeKind.OWNER_REPLACED: generation_event_pb2.NOTICE_KIND_OWNER_REPLACED,
    NoticeKind.ESCALATED: generation_event_pb2.NOTICE_KIND_ESCALATED,
}


# Errors


def error_summary(error: DomainError) -> ErrorSummary:
    """An error for a place where no RPC status can carry it."""
    metadata = dict(error.metadata)
    if error.fields:
        metadata.setdefault("field", error.fields[0].field)
    return ErrorSummary(error.code.name, error.reason.value, error.message, metadata, error.retry_after_s)


def domain_error(summary: ErrorSummary) -> DomainError:
    """The error that a summary was made from."""
    return DomainError(
        Reason(summary.reason), summary.message, metadata=summary.metadata, retry_after_s=summary.retry_after_s
    )


def error_to_json(error: ErrorSummary) -> dict[str, Any]:
    """As stored."""
    return {
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "metadata": dict(error.metadata),
    }


def error_from_json(value: dict[str, Any]) -> ErrorSummary:
    """As stored."""
    return ErrorSummary(value["code"], value["reason"], value["message"], value["metadata"])


def error_to_pb(error: ErrorSummary) -> conversation_pb2.ErrorSummary:
    """As sent."""
    summary = conversation_pb2.ErrorSummary(
        code=error.code, reason=error.reason, message=error.message, metadata=dict(error.metadata)
    )
    if error.retry_after_s is not None:
        summary.retry_after.FromTimedelta(timedelta(seconds=error.retry_after_s))
    return summary


def error_from_pb(error: conversation_pb2.ErrorSummary) -> ErrorSummary:
    """As it was sent."""
    retry_after_s = error.retry_after.ToTimedelta().total_seconds() if error.HasField("retry_after") else None
    return ErrorSummary(error.code, error.reason, error.message, dict(error.metadata), retry_after_s)


# Conversations and messages


def conversation_to_pb(conversation: Conversation) -> conversation_pb2.Conversation:
    """As sent."""
    return conversation_pb2.Conversation(
        id=conversation.id,
        title=conversation.title,
        model=conversation.model,
        system_prompt=conversation.system_prompt,
        message_count=conversation.message_count,
        create_time=timestamp(conversation.created_at),
        update_time=timestamp(conversation.updated_at),
        pinned=conversation.pinned,
        archived=conversation.archived,
        delete_time=timestamp(conversation.deleted_at) if conversation.deleted_at else None,
        purge_time=timestamp(conversation.purge_at) if conversation.purge_at else None,
        current_message_id=conversation.current_message_id,
        source_conversation_id=conversation.source_conversation_id,
    )


def message_to_pb(message: Message) -> conversation_pb2.Message:
    """As sent."""
    return conversation_pb2.Message(
        id=message.id,
        conversation_id=message.conversation_id,
        parent_id=message.parent_id,
        role=ROLE_TO_PB[message.role],
        content=message.content,
        status=_STATUS[message.status],
        sequence=message.sequence,
        create_time=timestamp(message.created_at),
        generation_id=message.generation_id,
        model=message.model,
        finish_reason=FINISH_TO_PB[message.finish_reason],
        usage=usage_to_pb(message.usage) if message.usage else None,
        route=route_to_pb(message.route) if message.route else None,
        error=error_to_pb(message.error) if message.error else None,
        sibling_ids=message.sibling_ids,
        depth=message.depth,
        feedback=feedback_to_pb(message.feedback) if message.feedback else None,
    )


def message_from_pb(pb: conversation_pb2.Message) -> Message:
    """As it was sent; without feedback, which no log has."""
    return Message(
        id=pb.id,
        conversation_id=pb.conversation_id,
        parent_id=pb.parent_id,
        role=_ROLE_FROM[pb.role],
        content=pb.content,
        status=_STATUS_FROM[pb.status],
        sequence=pb.sequence,
        created_at=pb.create_time.ToDatetime(UTC),
        generation_id=pb.generation_id,
        model=pb.model,
        finish_reason=_FINISH_FROM[pb.finish_reason],
        usage=TokenUsage(pb.usage.prompt_tokens, pb.usage.completion_tokens, pb.usage.cached_tokens)
        if pb.HasField("usage")
        else None,
        route=route_from_pb(pb.route) if pb.HasField("route") else None,
        error=error_from_pb(pb.error) if pb.HasField("error") else None,
        sibling_ids=tuple(pb.sibling_ids),
        depth=pb.depth,
    )


def feedback_to_pb(feedback: Feedback) -> conversation_pb2.Feedback:
    """As sent."""
    return conversation_pb2.Feedback(
        rating=_RATINGS[feedback.rating],
        reason=f"FEEDBACK_REASON_{feedback.reason.upper() or 'UNSPECIFIED'}",
        comment=feedback.comment,
        update_time=timestamp(feedback.updated_at),
    )


def event_to_pb(entry: Entry, *, generation_id: str) -> generation_event_pb2.GenerationEvent:
    """As sent."""
    pb = generation_event_pb2.GenerationEvent(generation_id=generation_id, epoch=entry.epoch, seq=entry.seq)
    match entry.event:
        case Delta(text):
            pb.delta.text = text
        case Started() as started:
            pb.started.conversation_id = started.conversation_id
            pb.started.user_message_id = started.user_message_id
            pb.started.message_id = started.message_id
        case Retracted() as gone:
            pb.retracted.start = gone.start
            pb.retracted.end = gone.end
            pb.retracted.replacement = gone.replacement
            pb.retracted.category = gone.category
        case Notice(kind):
            pb.notice.kind = NOTICE_TO_PB[kind]
        case Completed(message):
            pb.completed.SetInParent()
            if message is not None:
                pb.completed.message.CopyFrom(message_to_pb(message))
        case Failed(error, message):
            pb.failed.error.CopyFrom(error_to_pb(error))
            if message is not None:
                pb.failed.message.CopyFrom(message_to_pb(message))
    return pb


def sampling_from_pb(options: chat_pb2.SamplingOptions) -> Sampling:
    """As received."""
    return Sampling(
        temperature=options.temperature if options.HasField("temperature") else None,
        top_p=options.top_p if options.HasField("top_p") else None,
        max_tokens=options.max_tokens if options.HasField("max_tokens") else None,
        seed=options.seed if options.HasField("seed") else None,
        stop=tuple(options.stop),
        response_format=_response_format_from_pb(options.response_format)
        if options.HasField("response_format")
        else None,
        presence_penalty=options.presence_penalty if options.HasField("presence_penalty") else None,
        frequency_penalty=options.frequency_penalty if options.HasField("frequency_penalty") else None,
        logit_bias=tuple(sorted(options.logit_bias.items())),
    )


def sampling_to_json(sampling: Sampling) -> dict[str, Any]:
    """As stored."""
    form = sampling.response_format
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
        "stop": list(sampling.stop),
        "response_format": {"form": form.form.value, "text": form.text} if form else None,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": [list(bias) for bias in sampling.logit_bias],
    }


def sampling_from_json(value: dict[str, Any]) -> Sampling:
    """As stored."""
    form = value["response_format"]
    return Sampling(
        temperature=value["temperature"],
        top_p=value["top_p"],
        max_tokens=value["max_tokens"],
        seed=value["seed"],
        stop=tuple(value["stop"]),
        response_format=ResponseFormat(ResponseForm(form["form"]), form["text"]) if form else None,
        # Rows of before these were asked for do not have them.
        presence_penalty=value.get("presence_penalty"),
        frequency_penalty=value.get("frequency_penalty"),
        logit_bias=tuple((token, bias) for token, bias in value.get("logit_bias", ())),
    )


def _response_format_from_pb(asked: chat_pb2.ResponseFormat) -> ResponseFormat | None:
    match asked.WhichOneof("format"):
        case "json_object":
            return ResponseFormat(ResponseForm.JSON_OBJECT) if asked.json_object else None
        case "json_schema":
            return ResponseFormat(ResponseForm.JSON_SCHEMA, asked.json_schema)
        case "grammar":
            return ResponseFormat(ResponseForm.GRAMMAR, asked.grammar)
    return None


def usage_to_pb(usage: TokenUsage) -> chat_pb2.TokenUsage:
    """As sent."""
    return chat_pb2.TokenUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
    )


def timestamp(value: datetime) -> timestamp_pb2.Timestamp:
    """As sent."""
    pb = timestamp_pb2.Timestamp()
    pb.FromDatetime(value)
    return pb
