"""Between the contracts of the other services and the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from google.rpc import status_pb2

from chatmesh.context.v1 import context_service_pb2 as context_pb2
from chatmesh.conversation.v1 import generation_service_pb2
from chatmesh.inference.v1 import inference_service_pb2
from chatmesh.inference.v1.generation_pb2 import GenerationEnd, GenerationStart
from chatmesh.moderation.v1 import moderation_service_pb2, verdict_pb2
from chatmesh.router.v1 import model_pb2, router_service_pb2
from chatmesh.type.v1 import chat_pb2
from chatmesh.usage.v1 import usage_service_pb2
from services.conversation.convert import FINISH_TO_PB, ROLE_TO_PB, timestamp, usage_to_pb
from services.conversation.model import (
    Candidate,
    ChatMessage,
    FinishReason,
    GeneratedPiece,
    Model,
    Prompt,
    ResponseForm,
    ResponseFormat,
    Route,
    RouteReceipt,
    Sampling,
    TokenUsage,
    UsageRecord,
)
from services.runtime.errors import DomainError, Reason, from_status

MAX_BYTES = 4 * 1024 * 1024
"""Size at which a message on a multiplexed stream is full; one that is too large would end it for everybody."""

Page = tuple[Sequence[tuple[str, ChatMessage]], bool]
"""Messages with their ids, newest first, and whether none are left."""

Start = GenerationStart
"""A generation to start, ready to be sent."""

_ROLE_FROM = {value: key for key, value in ROLE_TO_PB.items()}
_FINISH_FROM = {value: key for key, value in FINISH_TO_PB.items()}

# Router


def route_request(
    *, generation_id: str, model: str, conversation_id: str, excluded: Sequence[str]
) -> router_service_pb2.RouteRequest:
    """What is to be routed."""
    return router_service_pb2.RouteRequest(
        generation_id=generation_id, model=model, conversation_id=conversation_id, excluded_replica_ids=excluded
    )


def list_models_request() -> router_service_pb2.ListModelsRequest:
    """Asks for the registry."""
    return router_service_pb2.ListModelsRequest()


def route_from_pb(response: router_service_pb2.RouteResponse) -> Route:
    """Where a generation runs."""
    receipt = response.receipt
    return Route(
        address=response.lease.address,
        replica_id=response.lease.replica_id,
        model=model_from_pb(response.model),
        receipt=RouteReceipt(
            requested_model=receipt.requested_model,
            model=receipt.model,
            engine=receipt.engine,
            replica_id=receipt.replica_id,
            rule=receipt.rule,
            candidates=tuple(Candidate(c.model, c.replica_id, c.score, c.in_flight) for c in receipt.candidates),
        ),
    )


def model_from_pb(model: model_pb2.Model) -> Model:
    """A model of the registry."""
    return Model(
        name=model.name,
        context_length=model.context_length,
        max_output_tokens=model.max_output_tokens,
        default_system_prompt=model.default_system_prompt,
        created=model.create_time.seconds,
        tiers=tuple(model.tiers),
    )


# Context


def context_start(
    *, system_prompt: str, user_message: str, first_page: Page, custom_instructions: str
) -> context_pb2.AssembleContextRequest:
    """Opens an assembly."""
    return context_pb2.AssembleContextRequest(
        start=context_pb2.ContextStart(
            system_prompt=system_prompt,
            user_message=user_message,
            first_page=_page(first_page),
            custom_instructions=custom_instructions,
        )
    )


def context_target(route: Route, *, reserved_output_tokens: int) -> context_pb2.AssembleContextRequest:
    """Says for which model."""
    return context_pb2.AssembleContextRequest(
        target=context_pb2.ContextTarget(
            model=route.model.name,
            context_length=route.model.context_length,
            reserved_output_tokens=reserved_output_tokens,
            tokenizer_address=route.address,
            default_system_prompt=route.model.default_system_prompt,
        )
    )


def history_page(page: Page) -> context_pb2.AssembleContextRequest:
    """Answers a request for history."""
    return context_pb2.AssembleContextRequest(history_page=_page(page))


def _page(page: Page) -> context_pb2.HistoryPage:
    messages, exhausted = page
    return context_pb2.HistoryPage(
        messages=[context_pb2.HistoryMessage(id=id_, message=chat_message_to_pb(message)) for id_, message in messages],
        exhausted=exhausted,
    )


def prompt_from_pb(assembled: context_pb2.AssembledContext) -> Prompt:
    """The prompt."""
    return Prompt(
        messages=tuple(ChatMessage(_ROLE_FROM[m.role], m.content) for m in assembled.messages),
        available_output_tokens=assembled.available_output_tokens,
        truncated=assembled.truncated,
    )


def chat_message_to_pb(message: ChatMessage) -> chat_pb2.ChatMessage:
    """As sent."""
    return chat_pb2.ChatMessage(role=ROLE_TO_PB[message.role], content=message.content)


# Inference


def generation_start(
    *,
    generation_id: str,
    model: str,
    messages: Sequence[ChatMessage],
    sampling: Sampling,
    continuation: Sequence[GeneratedPiece],
    traceparent: str,
) -> GenerationStart:
    """Starts a generation, or goes on with one."""
    options = chat_pb2.SamplingOptions(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed,
        stop=sampling.stop,
        response_format=_response_format(sampling.response_format) if sampling.response_format else None,
    )
    return GenerationStart(
        generation_id=generation_id,
        model=model,
        messages=[chat_message_to_pb(m) for m in messages],
        sampling=options,
        traceparent=traceparent,
        continuation=[chat_pb2.GeneratedPiece(text=piece.text, token_ids=piece.token_ids) for piece in continuation],
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


def finish_from_pb(end: GenerationEnd) -> tuple[FinishReason, TokenUsage, DomainError | None]:
    """How a generation ended."""
    usage = TokenUsage(end.usage.prompt_tokens, end.usage.completion_tokens, end.usage.cached_tokens)
    error: DomainError | None = None
    if end.finish_reason == chat_pb2.FINISH_REASON_ERROR:
        error = _error_from_status(end.error)
    return _FINISH_FROM.get(end.finish_reason, FinishReason.NONE) or FinishReason.ERROR, usage, error


def _error_from_status(status: status_pb2.Status) -> DomainError:
    error = from_status(status)
    if error is None or error.reason is Reason.INTERNAL:
        return DomainError(Reason.ENGINE_FAILED, "The engine failed before the answer was complete; ask again.")
    return error


# The other servers of this service


def stop_request(generation_id: str) -> generation_service_pb2.StopGenerationRequest:
    """Stops a generation."""
    return generation_service_pb2.StopGenerationRequest(generation_id=generation_id)


# Moderation


def input_check(*, generation_id: str, texts: Sequence[str]) -> moderation_service_pb2.CheckInputRequest:
    """What a user sends."""
    return moderation_service_pb2.CheckInputRequest(generation_id=generation_id, texts=texts)


def segment(generation_id: str, text: str, *, last: bool) -> moderation_service_pb2.Segment:
    """The next stretch of an answer."""
    return moderation_service_pb2.Segment(generation_id=generation_id, text=text, last=last)


def abandonment(generation_id: str) -> moderation_service_pb2.Segment:
    """Says that an answer was dropped."""
    return moderation_service_pb2.Segment(generation_id=generation_id, abandoned=True)


def check_stream_requests(
    segments: Iterable[moderation_service_pb2.Segment],
) -> Iterator[moderation_service_pb2.CheckStreamRequest]:
    """Everything that is to be checked, in messages of a bounded size."""
    request = moderation_service_pb2.CheckStreamRequest()
    size = 0
    for item in segments:
        size += item.ByteSize()
        if request.segments and size > MAX_BYTES:
            yield request
            request, size = moderation_service_pb2.CheckStreamRequest(), item.ByteSize()
        request.segments.append(item)
    yield request


def is_block(action: int) -> bool:
    """Whether an action ends the text."""
    return action == int(verdict_pb2.ACTION_BLOCK)


def is_redact(action: int) -> bool:
    """Whether an action changes the text."""
    return action == int(verdict_pb2.ACTION_REDACT)


@dataclass(frozen=True, slots=True)
class Retraction:
    """Text of an answer that must go: a range of what the model wrote, and what stands there instead."""

    start: int
    end: int
    replacement: str
    category: str
    ends_answer: bool
    policy_version: str


def retractions_from_pb(retractions: Iterable[verdict_pb2.Retraction], policy_version: str) -> list[Retraction]:
    """What must go."""
    return [
        Retraction(r.start, r.end, r.replacement, r.category, is_block(r.action), policy_version) for r in retractions
    ]


# Usage


def acquire_request(*, generation_id: str, tokens: int) -> usage_service_pb2.AcquireRequest:
    """Asks for a lease."""
    return usage_service_pb2.AcquireRequest(generation_id=generation_id, tokens=tokens)


def forget_request() -> usage_service_pb2.ForgetUserRequest:
    """Asks that the caller be forgotten."""
    return usage_service_pb2.ForgetUserRequest()


def settle_request(records: Sequence[UsageRecord]) -> usage_service_pb2.SettleRequest:
    """What was used."""
    return usage_service_pb2.SettleRequest(
        records=[
            usage_service_pb2.UsageRecord(
                generation_id=record.generation_id,
                user_id=record.user_id,
                conversation_id=record.conversation_id,
                model=record.model,
                usage=usage_to_pb(record.usage),
                finish_reason=FINISH_TO_PB[record.finish_reason],
                end_time=timestamp(record.ended_at),
                tier=record.tier,
            )
            for record in records
        ]
    )
