"""Between the contracts of the other services and the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from chatmesh.context.v1 import context_service_pb2 as context_pb2
from chatmesh.conversation.v1 import generation_service_pb2
from chatmesh.moderation.v1 import moderation_service_pb2, verdict_pb2
from chatmesh.usage.v1 import usage_service_pb2
from services.conversation.chat_model import ChatMessage
from services.conversation.convert import FINISH_TO_PB, timestamp, usage_to_pb
from services.conversation.engine_model import Prompt
from services.conversation.model import UsageRecord
from services.conversation.peers.chat_convert import chat_message_from_pb, chat_message_to_pb
from services.conversation.route_model import Route

MAX_BYTES = 4 * 1024 * 1024
"""Size at which a message on a multiplexed stream is full; one that is too large would end it for everybody."""

Page = tuple[Sequence[tuple[str, ChatMessage]], bool]
"""Messages with their ids, newest first, and whether none are left."""


# Context


def context_start(
    *, system_prompt: str, user_message: str, first_page: Page, custom_instructions: str, beside_messages: str
) -> context_pb2.AssembleContextRequest:
    """Opens an assembly."""
    return context_pb2.AssembleContextRequest(
        start=context_pb2.ContextStart(
            system_prompt=system_prompt,
            user_message=user_message,
            first_page=_page(first_page),
            custom_instructions=custom_instructions,
            beside_messages=beside_messages,
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
        messages=tuple(chat_message_from_pb(m) for m in assembled.messages),
        available_output_tokens=assembled.available_output_tokens,
        truncated=assembled.truncated,
    )


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
