"""Between the contracts and the model."""

from __future__ import annotations

from collections.abc import Iterable

from chatmesh.inference.v1 import generation_pb2, inference_service_pb2, status_pb2
from chatmesh.type.v1 import chat_pb2
from services.inference.model import (
    Capability,
    Delta,
    Embeddings,
    FinishReason,
    GeneratedPiece,
    GenerationRequest,
    LoadedModel,
    Message,
    Priority,
    ReplicaState,
    ResponseForm,
    ResponseFormat,
    Role,
    Sampling,
    TokenCounts,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolMode,
    ToolOptions,
)
from services.runtime.errors import DomainError, FieldViolation, Reason, to_status

_ROLES = {
    chat_pb2.ROLE_SYSTEM: Role.SYSTEM,
    chat_pb2.ROLE_USER: Role.USER,
    chat_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
    chat_pb2.ROLE_TOOL: Role.TOOL,
}
_FINISH_REASONS = {
    FinishReason.STOP: chat_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: chat_pb2.FINISH_REASON_LENGTH,
    FinishReason.CANCELLED: chat_pb2.FINISH_REASON_CANCELLED,
    FinishReason.ERROR: chat_pb2.FINISH_REASON_ERROR,
    FinishReason.TOOL_CALLS: chat_pb2.FINISH_REASON_TOOL_CALLS,
}
_TOOL_MODES = {
    chat_pb2.TOOL_MODE_UNSPECIFIED: ToolMode.AUTO,
    chat_pb2.TOOL_MODE_AUTO: ToolMode.AUTO,
    chat_pb2.TOOL_MODE_NONE: ToolMode.NONE,
    chat_pb2.TOOL_MODE_REQUIRED: ToolMode.REQUIRED,
}
_CAPABILITIES = {
    Capability.CHAT: status_pb2.CAPABILITY_CHAT,
    Capability.TOOLS: status_pb2.CAPABILITY_TOOLS,
    Capability.VISION: status_pb2.CAPABILITY_VISION,
    Capability.JSON: status_pb2.CAPABILITY_JSON,
    Capability.LOGPROBS: status_pb2.CAPABILITY_LOGPROBS,
    Capability.LOGIT_BIAS: status_pb2.CAPABILITY_LOGIT_BIAS,
    Capability.PENALTIES: status_pb2.CAPABILITY_PENALTIES,
    Capability.EMBEDDINGS: status_pb2.CAPABILITY_EMBEDDINGS,
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
        messages=tuple(_message(message) for message in start.messages),
        sampling=Sampling(
            temperature=sampling.temperature if sampling.HasField("temperature") else None,
            top_p=sampling.top_p if sampling.HasField("top_p") else None,
            max_tokens=sampling.max_tokens if sampling.HasField("max_tokens") else None,
            seed=sampling.seed if sampling.HasField("seed") else None,
            stop=tuple(sampling.stop),
            response_format=_response_format(sampling.response_format),
            presence_penalty=sampling.presence_penalty if sampling.HasField("presence_penalty") else None,
            frequency_penalty=sampling.frequency_penalty if sampling.HasField("frequency_penalty") else None,
            logit_bias=tuple(sampling.logit_bias.items()),
        ),
        continuation=tuple(
            GeneratedPiece(piece.text, tuple(piece.token_ids))
            for piece in start.continuation
            if piece.text or piece.token_ids
        ),
        traceparent=start.traceparent,
        tools=_tools(start.tools) if start.HasField("tools") else None,
        top_logprobs=start.top_logprobs if start.HasField("top_logprobs") else None,
        confidence=start.confidence,
        priority=to_priority(start.priority),
        queue_timeout_s=start.queue_timeout_ms / 1000 if start.queue_timeout_ms else None,
    )


def to_priority(value: generation_pb2.Priority) -> Priority:
    """A priority; one that is not said is the usual."""
    return Priority(value) if value else Priority.NORMAL


def to_generate_response(deltas: Iterable[Delta]) -> inference_service_pb2.GenerateResponse:
    """Deltas of different generations as one message."""
    response = inference_service_pb2.GenerateResponse()
    add = response.deltas.add
    for delta in deltas:
        message = add(
            generation_id=delta.generation_id,
            text=_sound(delta.text),
            token_ids=delta.token_ids,
            token_count=delta.token_count,
        )
        if delta.logprobs:
            message.logprobs.extend(_logprob(logprob) for logprob in delta.logprobs)
        if delta.logprob_sum is not None:
            message.logprob_sum = delta.logprob_sum
        for call in delta.tool_calls:
            message.tool_calls.add(
                index=call.index, id=_sound(call.id), name=_sound(call.name), arguments=_sound(call.arguments)
            )
        end = delta.end
        if end is not None:
            message.end.finish_reason = _FINISH_REASONS[end.finish_reason]
            message.end.queue_ms = end.queue_ms
            message.end.first_token_ms = end.first_token_ms
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


def to_embed_response(embeddings: Embeddings) -> inference_service_pb2.EmbedResponse:
    """Vectors as a message."""
    return inference_service_pb2.EmbedResponse(
        embeddings=[inference_service_pb2.Embedding(values=vector) for vector in embeddings.vectors],
        prompt_tokens=embeddings.prompt_tokens,
        truncated=embeddings.truncated,
    )


def to_watch_status_response(state: ReplicaState) -> inference_service_pb2.WatchStatusResponse:
    """The replica's state as a message."""
    return inference_service_pb2.WatchStatusResponse(
        status=status_pb2.ReplicaStatus(
            replica_id=state.replica_id,
            draining=state.draining,
            pool=state.pool,
            zone=state.zone,
            region=state.region,
            models=[_loaded_model(model) for model in state.models],
        )
    )


def _loaded_model(model: LoadedModel) -> status_pb2.LoadedModel:
    return status_pb2.LoadedModel(
        name=model.name,
        engine=model.engine,
        context_length=model.context_length,
        running=model.running,
        queued=model.queued,
        slots=model.slots,
        tokens_per_second=model.tokens_per_second,
        time_to_first_token_ms=model.time_to_first_token_ms,
        capabilities=[value for capability, value in _CAPABILITIES.items() if capability in model.capabilities],
        kv_cache_usage=model.kv_cache_usage,
        kv_cache_hit_rate=model.kv_cache_hit_rate,
        queue_wait_ms=model.queue_wait_ms,
        waiting=[
            status_pb2.WaitingClass(priority=waiting.priority, queued=waiting.queued, wait_ms=waiting.wait_ms)
            for waiting in model.waiting
        ],
        completed=model.completed,
        failed=model.failed,
        kv_blocks_stored=model.kv_blocks_stored,
        kv_blocks_removed=model.kv_blocks_removed,
    )


def _message(message: chat_pb2.ChatMessage) -> Message:
    return Message(
        role=_role(message.role),
        content=message.content,
        tool_calls=tuple(ToolCall(call.id, call.name, call.arguments) for call in message.tool_calls),
        tool_call_id=message.tool_call_id,
        name=message.name,
    )


def _tools(options: chat_pb2.ToolOptions) -> ToolOptions | None:
    mode = _TOOL_MODES.get(options.mode, ToolMode.AUTO)
    if not options.tools or mode is ToolMode.NONE:
        return None
    return ToolOptions(
        tools=tuple(Tool(tool.name, tool.description, tool.parameters, tool.strict) for tool in options.tools),
        mode=mode,
        function=options.function,
        single_call=options.single_call,
    )


def _logprob(logprob: TokenLogprob) -> chat_pb2.TokenLogprob:
    return chat_pb2.TokenLogprob(
        token=_sound(logprob.token),
        bytes=logprob.data,
        logprob=logprob.logprob,
        top=[_logprob(other) for other in logprob.top],
    )


def _sound(text: str) -> str:
    """The text without halves of characters, which JSON can spell and no message can hold.

    A model may write one, and a server send one: one answer must not break the stream that carries all others.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


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
            fields=[FieldViolation("messages.role", "must be SYSTEM, USER, ASSISTANT or TOOL")],
        )
    return role
