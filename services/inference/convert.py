"""Between the contracts and the model."""

from __future__ import annotations

from collections.abc import Iterable

from chatmesh.inference.v1 import generation_pb2, inference_service_pb2, status_pb2
from chatmesh.type.v1 import chat_pb2
from services.inference.model import (
    Delta,
    FinishReason,
    GeneratedPiece,
    GenerationRequest,
    Message,
    ReplicaState,
    ResponseForm,
    ResponseFormat,
    Role,
    Sampling,
    TokenCounts,
)
from services.runtime.errors import DomainError, FieldViolation, Reason, to_status

_ROLES = {
    chat_pb2.ROLE_SYSTEM: Role.SYSTEM,
    chat_pb2.ROLE_USER: Role.USER,
    chat_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
}
_FINISH_REASONS = {
    FinishReason.STOP: chat_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: chat_pb2.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: chat_pb2.FINISH_REASON_CANCELLED,
    FinishReason.ERROR: chat_pb2.FINISH_REASON_ERROR,
}


def to_request(start: generation_pb2.GenerationStart, *, key: int) -> GenerationRequest:
    """A start as a request.

    Raises:
        DomainError: INVALID_FIELD for a role that this version does not know.
    """
    sampling = start.sampling
    return GenerationRequest(
        key=key,
        generation_id=start.generation_id,
        model=start.model,
        messages=tuple(Message(_role(message.role), message.content) for message in start.messages),
        sampling=Sampling(
            temperature=sampling.temperature if sampling.HasField("temperature") else None,
            top_p=sampling.top_p if sampling.HasField("top_p") else None,
            max_tokens=sampling.max_tokens if sampling.HasField("max_tokens") else None,
            seed=sampling.seed if sampling.HasField("seed") else None,
            stop=tuple(sampling.stop),
            response_format=_response_format(sampling.response_format),
        ),
        continuation=tuple(
            GeneratedPiece(piece.text, tuple(piece.token_ids))
            for piece in start.continuation
            if piece.text or piece.token_ids
        ),
        traceparent=start.traceparent,
    )


def to_generate_response(deltas: Iterable[Delta]) -> inference_service_pb2.GenerateResponse:
    """Deltas of different generations as one message."""
    response = inference_service_pb2.GenerateResponse()
    add = response.deltas.add
    for delta in deltas:
        message = add(
            generation_id=delta.generation_id,
            text=delta.text,
            token_ids=delta.token_ids,
            token_count=delta.token_count,
        )
        end = delta.end
        if end is not None:
            message.end.finish_reason = _FINISH_REASONS[end.finish_reason]
            message.end.queue_ms = end.queue_ms
            message.end.usage.prompt_tokens = end.usage.prompt_tokens
            message.end.usage.completion_tokens = end.usage.completion_tokens
            message.end.usage.cached_tokens = end.usage.cached_tokens
            if end.error is not None:
                message.end.error.CopyFrom(to_status(end.error))
    return response


def to_count_tokens_response(counts: TokenCounts) -> inference_service_pb2.CountTokensResponse:
    """Token counts as a message."""
    return inference_service_pb2.CountTokensResponse(
        counts=counts.counts,
        tokens_per_message=counts.tokens_per_message,
        tokens_per_prompt=counts.tokens_per_prompt,
    )


def to_watch_status_response(state: ReplicaState) -> inference_service_pb2.WatchStatusResponse:
    """The replica's state as a message."""
    return inference_service_pb2.WatchStatusResponse(
        status=status_pb2.ReplicaStatus(
            replica_id=state.replica_id,
            draining=state.draining,
            models=[
                status_pb2.LoadedModel(
                    name=model.name,
                    engine=model.engine,
                    context_length=model.context_length,
                    running=model.running,
                    queued=model.queued,
                    slots=model.slots,
                    tokens_per_second=model.tokens_per_second,
                    time_to_first_token_ms=model.time_to_first_token_ms,
                )
                for model in state.models
            ],
        )
    )


def _response_format(asked: chat_pb2.ResponseFormat) -> ResponseFormat | None:
    match asked.WhichOneof("format"):
        case "json_object" if asked.json_object:
            return ResponseFormat(ResponseForm.JSON_OBJECT)
        case "json_schema":
            return ResponseFormat(ResponseForm.JSON_SCHEMA, asked.json_schema)
        case "grammar":
            return ResponseFormat(ResponseForm.GRAMMAR, asked.grammar)
    return None


def _role(value: chat_pb2.Role) -> Role:
    role = _ROLES.get(value)
    if role is None:
        raise DomainError(
            Reason.INVALID_FIELD,
            "messages hold a role that is not known here.",
            fields=[FieldViolation("messages.role", "must be SYSTEM, USER or ASSISTANT")],
        )
    return role
