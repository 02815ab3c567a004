"""Field limits, as they stand in the protos."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from chatmesh.context.v1 import context_service_pb2 as context
from chatmesh.conversation.v1 import conversation_service_pb2 as conversation
from chatmesh.conversation.v1 import generation_service_pb2, user_service_pb2
from chatmesh.inference.v1 import generation_pb2, inference_service_pb2
from chatmesh.moderation.v1 import moderation_service_pb2
from chatmesh.router.v1 import router_service_pb2
from chatmesh.type.v1 import chat_pb2
from chatmesh.usage.v1 import usage_service_pb2
from services.runtime.errors import DomainError, Reason
from services.runtime.validation import Validator

VALIDATOR = Validator()
UUID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
UNKNOWN: Any = 99
"""No enum has it."""


def send(**fields: Any) -> conversation.SendMessageRequest:
    return conversation.SendMessageRequest(**({"conversation_id": "c", "content": "Hello"} | fields))


def sampling(**fields: Any) -> Message:
    return send(sampling=chat_pb2.SamplingOptions(**fields))


def search(**fields: Any) -> Message:
    return conversation.SearchConversationsRequest(query="q", **fields)


def message(content: str) -> chat_pb2.ChatMessage:
    return chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, content=content)


@pytest.mark.parametrize(
    "valid",
    [
        send(),
        # Lengths are of characters, not of bytes.
        send(content="\N{GRINNING FACE}" * 100_000),
        send(content=" x "),
        send(request_id=UUID, model="org/model-1.0:q4"),
        # A string that is empty is absent, unless it is required.
        send(request_id="", model=""),
        sampling(),
        sampling(temperature=0, top_p=1, max_tokens=131_072, seed=-1, stop=["x" * 256] * 8),
        sampling(temperature=2.0),
        conversation.ListConversationsRequest(page_size=0),
        conversation.ListConversationsRequest(page_size=200),
        conversation.UpdateConversationRequest(conversation_id="c", title="", model=""),
        user_service_pb2.UpdateSettingsRequest(default_model=""),
        send(on_busy=conversation.ON_BUSY_QUEUE),
        # Of what services share the other may know more.
        usage_service_pb2.SettleRequest(
            records=[
                usage_service_pb2.UsageRecord(
                    generation_id="g", user_id="u", finish_reason=UNKNOWN, end_time=Timestamp(seconds=1)
                )
            ]
        ),
        search(start_time=Timestamp(seconds=-62_135_596_800), end_time=Timestamp(nanos=999_999_999)),
        search(start_time=Timestamp(seconds=253_402_300_799)),
        conversation.GetConversationRequest(conversation_id="x" * 64),
        router_service_pb2.RouteRequest(excluded_replica_ids=["r"] * 64),
        usage_service_pb2.GetUsageRequest(),
        inference_service_pb2.WatchStatusRequest(),
    ],
)
def test_what_is_within_the_limits_passes(valid: Message) -> None:
    VALIDATOR.validate(valid)


@pytest.mark.parametrize(
    ("invalid", "fields"),
    [
        (conversation.SendMessageRequest(), ["conversation_id", "content"]),
        (send(content="   \n\t"), ["content"]),
        (send(content="x" * 100_001), ["content"]),
        (send(content="a\0b"), ["content"]),
        (send(conversation_id="x" * 65), ["conversation_id"]),
        (send(request_id=UUID.upper()), ["request_id"]),
        (send(request_id=UUID + "\n"), ["request_id"]),
        (send(request_id="1"), ["request_id"]),
        (send(model="-x"), ["model"]),
        (send(model="a b"), ["model"]),
        (send(model="a\n"), ["model"]),
        (send(model="x" * 129), ["model"]),
        (sampling(temperature=2.5), ["sampling.temperature"]),
        (sampling(temperature=-0.1), ["sampling.temperature"]),
        (sampling(temperature=math.nan), ["sampling.temperature"]),
        (sampling(top_p=math.inf), ["sampling.top_p"]),
        (sampling(max_tokens=0), ["sampling.max_tokens"]),
        (sampling(max_tokens=131_073), ["sampling.max_tokens"]),
        (sampling(stop=["x"] * 9), ["sampling.stop"]),
        (sampling(stop=["x", "", "y" * 257]), ["sampling.stop[1]", "sampling.stop[2]"]),
        (sampling(temperature=3, top_p=2), ["sampling.temperature", "sampling.top_p"]),
        (conversation.ListConversationsRequest(page_size=-1), ["page_size"]),
        # Enums are open on the wire.
        (send(on_busy=UNKNOWN), ["on_busy"]),
        (conversation.ListConversationsRequest(order=UNKNOWN), ["order"]),
        (
            conversation.RateMessageRequest(conversation_id="c", message_id="m", rating=UNKNOWN, reason=UNKNOWN),
            ["rating", "reason"],
        ),
        (generation_service_pb2.ConverseRequest(send=send(on_busy=UNKNOWN)), ["send.on_busy"]),
        (search(start_time=Timestamp(seconds=-99_999_999_999_999)), ["start_time"]),
        (search(start_time=Timestamp(nanos=-5), end_time=Timestamp(nanos=10**9)), ["start_time", "end_time"]),
        (search(end_time=Timestamp(seconds=253_402_300_800)), ["end_time"]),
        (conversation.ListConversationsRequest(page_size=201), ["page_size"]),
        (router_service_pb2.RouteRequest(excluded_replica_ids=["r"] * 65), ["excluded_replica_ids"]),
        (usage_service_pb2.AcquireRequest(generation_id="g"), ["tokens"]),
        (usage_service_pb2.SettleRequest(), ["records"]),
        (
            usage_service_pb2.SettleRequest(records=[usage_service_pb2.UsageRecord(generation_id="g", user_id="u")]),
            ["records[0].end_time"],
        ),
        (generation_pb2.GenerationStart(generation_id="g", model="m"), ["messages"]),
        (
            generation_pb2.GenerationStart(
                generation_id="g", model="m", messages=[message("Hi"), message("x" * 1_000_001)]
            ),
            ["messages[1].content"],
        ),
        (
            context.AssembleContextRequest(history_page=context.HistoryPage(messages=[context.HistoryMessage(id="m")])),
            ["history_page.messages[0].message"],
        ),
        (moderation_service_pb2.CheckInputRequest(), ["texts"]),
        (moderation_service_pb2.CheckInputRequest(texts=["x", "x" * 1_000_001]), ["texts[1]"]),
    ],
)
def test_each_field_that_breaks_its_limits_is_named(invalid: Message, fields: list[str]) -> None:
    with pytest.raises(DomainError) as refused:
        VALIDATOR.validate(invalid)
    assert refused.value.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in refused.value.fields] == fields
    assert refused.value.message.startswith(fields[0])
    assert ("(and 1 more)" in refused.value.message) == (len(fields) == 2)


def test_the_text_of_users_is_not_repeated() -> None:
    with pytest.raises(DomainError) as refused:
        VALIDATOR.validate(send(content="a secret\0"))
    assert "secret" not in refused.value.message + str(refused.value.fields)


def test_not_more_violations_are_listed_than_anybody_reads() -> None:
    texts = ["\0"] * 4096
    with pytest.raises(DomainError) as refused:
        VALIDATOR.validate(moderation_service_pb2.CheckInputRequest(texts=texts))
    assert len(refused.value.fields) == 20
    assert "(and 4095 more)" in refused.value.message
