"""Between Inference's contract and the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from google.rpc import status_pb2

from chatmesh.inference.v1 import generation_pb2, inference_service_pb2
from chatmesh.inference.v1.generation_pb2 import GenerationEnd, GenerationStart
from chatmesh.type.v1 import chat_pb2
from services.conversation.chat_model import (
    ChatMessage,
    FinishReason,
    GeneratedPiece,
    ResponseForm,
    ResponseFormat,
    Sampling,
    TokenLogprob,
    TokenUsage,
    ToolCallDelta,
    ToolMode,
    ToolOptions,
)
from services.conversation.convert import FINISH_TO_PB
from services.conversation.engine_model import EngineEnd, GenerationOptions, TokenDetails
from services.conversation.peers.chat_convert import chat_message_to_pb
from services.conversation.peers.convert import MAX_BYTES
from services.runtime.errors import DomainError, Reason, from_status

Start = GenerationStart
"""A generation to start, ready to be sent."""

_FINISH_FROM = {value: key for key, value in FINISH_TO_PB.items()}
_TOOL_MODES = {
    ToolMode.AUTO: chat_pb2.TOOL_MODE_AUTO,
    ToolMode.NONE: chat_pb2.TOOL_MODE_NONE,
    ToolMode.REQUIRED: chat_pb2.TOOL_MODE_REQUIRED,
}


def generation_start(
    *,
    generation_id: str,
    model: str,
    messages: Sequence[ChatMessage],
    sampling: Sampling,
    options: GenerationOptions,
    continuation: Sequence[GeneratedPiece],
    traceparent: str,
) -> GenerationStart:
    """Starts a generation, or goes on with one."""
    return GenerationStart(
        generation_id=generation_id,
        model=model,
        messages=[chat_message_to_pb(m) for m in messages],
        sampling=_sampling(sampling),
        traceparent=traceparent,
        continuation=[chat_pb2.GeneratedPiece(text=piece.text, token_ids=piece.token_ids) for piece in continuation],
        tools=_tools(options.tools) if options.tools else None,
        top_logprobs=options.top_logprobs,
        confidence=options.confidence,
        priority=generation_pb2.Priority.Name(options.priority),
    )


def _sampling(sampling: Sampling) -> chat_pb2.SamplingOptions:
    return chat_pb2.SamplingOptions(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed,
        stop=sampling.stop,
        response_format=_response_format(sampling.response_format) if sampling.response_format else None,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        logit_bias=dict(sampling.logit_bias),
    )


def _tools(options: ToolOptions) -> chat_pb2.ToolOptions:
    return chat_pb2.ToolOptions(
        tools=[
            chat_pb2.Tool(name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict)
            for tool in options.tools
        ],
        mode=_TOOL_MODES[options.mode],
        function=options.function,
        single_call=options.single_call,
    )


def _response_format(asked: ResponseFormat) -> chat_pb2.ResponseFormat:
    match asked.form:
        case ResponseForm.JSON_OBJECT:
            return chat_pb2.ResponseFormat(json_object=True)
        case ResponseForm.JSON_SCHEMA:
            return chat_pb2.ResponseFormat(json_schema=asked.text)
        case ResponseForm.GRAMMAR:
            return chat_pb2.ResponseFormat(grammar=asked.text)


def generate_requests(items: Iterable[Start | str]) -> Iterator[inference_service_pb2.GenerateRequest]:
    """Generations to start, and ids of generations to cancel, in messages of a bounded size."""
    request = inference_service_pb2.GenerateRequest()
    size = 0
    for item in items:
        if isinstance(item, str):
            request.cancels.append(item)
            continue
        size += item.ByteSize()
        if request.starts and size > MAX_BYTES:
            yield request
            request, size = inference_service_pb2.GenerateRequest(), item.ByteSize()
        request.starts.append(item)
    yield request


def details_from_pb(delta: generation_pb2.GenerationDelta) -> TokenDetails | None:
    """What a delta says beside its text; None when that is nothing."""
    confident = delta.HasField("logprob_sum")
    if not (confident or delta.logprobs or delta.tool_calls):
        return None
    return TokenDetails(
        logprobs=tuple(_logprob(logprob) for logprob in delta.logprobs),
        tool_calls=tuple(ToolCallDelta(c.index, c.id, c.name, c.arguments) for c in delta.tool_calls),
        logprob_sum=delta.logprob_sum if confident else None,
        tokens=delta.token_count,
    )


def _logprob(logprob: chat_pb2.TokenLogprob) -> TokenLogprob:
    return TokenLogprob(logprob.token, logprob.bytes, logprob.logprob, tuple(_logprob(other) for other in logprob.top))


def end_from_pb(end: GenerationEnd) -> EngineEnd:
    """How a generation ended."""
    return EngineEnd(
        reason=_FINISH_FROM.get(end.finish_reason, FinishReason.NONE) or FinishReason.ERROR,
        usage=TokenUsage(end.usage.prompt_tokens, end.usage.completion_tokens, end.usage.cached_tokens),
        error=_error_from_status(end.error) if end.finish_reason == chat_pb2.FINISH_REASON_ERROR else None,
        queue_ms=end.queue_ms,
        first_token_ms=end.first_token_ms,
    )


def _error_from_status(status: status_pb2.Status) -> DomainError:
    error = from_status(status)
    if error is None or error.reason is Reason.INTERNAL:
        return DomainError(Reason.ENGINE_FAILED, "The engine failed before the answer was complete; ask again.")
    return error
