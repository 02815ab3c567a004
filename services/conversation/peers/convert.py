"""Between the contracts of the other services and the model."""

from __future__ import annotations

from collections.abc import Sequence

from chatmesh.context.v1 import context_service_pb2 as context_pb2
from chatmesh.conversation.v1 import generation_service_pb2
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
