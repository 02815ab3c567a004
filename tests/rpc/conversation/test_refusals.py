"""Whoever refuses a turn before it began: nothing of it is left, and the call ends in the refusal's own status."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from chatmesh.conversation.v1 import conversation_pb2
from chatmesh.moderation.v1 import moderation_service_pb2, verdict_pb2
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import DomainError, Reason
from tests.rpc.conversation.scripted import Held
from tests.rpc.conversation.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAMES = ("acquire", "check_input", "route", "assemble")
BLOCKED = moderation_service_pb2.CheckInputResponse(
    verdict=verdict_pb2.Verdict(
        action=verdict_pb2.ACTION_BLOCK,
        findings=[verdict_pb2.Finding(category="violence", rule="r", action=verdict_pb2.ACTION_BLOCK)],
        policy_version="p7",
    )
)
QUOTA = DomainError(Reason.QUOTA_EXCEEDED, "Your tokens are used up.", metadata={"tier": "pro"}, retry_after_s=60)
NOT_FOUND = DomainError(Reason.MODEL_NOT_FOUND, "No such model.", metadata={"model": "nobody"})
TOO_LONG = DomainError(Reason.CONTEXT_LENGTH_EXCEEDED, "Too long.", metadata={"model": "small"})


async def refused(stage: Stage, who: str, reply: Any) -> tuple[DomainError, grpc.StatusCode | None, Any]:
    """Refuse a turn while the other three have not answered; those are cancelled. Returns what the user hears."""
    held = {name: Held() for name in NAMES}
    user = await stage.user()
    stage.prepare("Hello", **held)
    reader = user.stream()
    async with asyncio.timeout(10):
        await asyncio.gather(*(call.called.wait() for call in held.values()))
        held.pop(who).reply(reply)
        refusal = await reader.refusal()
        await asyncio.gather(*(call.cancelled.wait() for call in held.values()))
    return refusal, reader.code, user


@pytest.mark.parametrize(
    ("who", "reply", "code"),
    [
        ("acquire", QUOTA, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("route", NOT_FOUND, grpc.StatusCode.NOT_FOUND),
        ("assemble", TOO_LONG, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_nothing_is_left(stage: Stage, who: str, reply: DomainError, code: grpc.StatusCode) -> None:
    refusal, heard, user = await refused(stage, who, reply)
    assert heard is code
    assert (refusal.reason, refusal.message, refusal.metadata, refusal.retry_after_s) == (
        reply.reason,
        reply.message,
        reply.metadata,
        reply.retry_after_s,
    )
    assert await user.messages() == []
    assert (await user.conversation()).message_count == 0
    generation_id = stage.usage.acquire.requests[0].generation_id
    if who == "acquire":
        # Another turn shows that by then nothing was settled for the one that had reserved nothing.
        reader, start = await stage.turn(user)
        stage.engine.finish(start.generation_id, "Now.")
        assert (await reader.completed()).sequence == 2
        await stage.usage.settled(start.generation_id)
        assert generation_id not in stage.usage.ledger
    else:
        record = await stage.usage.settled(generation_id)
        assert (record.usage, record.user_id, record.tier) == (chat_pb2.TokenUsage(), user.id, "pro")


async def test_a_message_that_moderation_refuses_stays(stage: Stage) -> None:
    refusal, heard, user = await refused(stage, "check_input", BLOCKED)
    assert heard is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.reason is Reason.CONTENT_BLOCKED
    assert refusal.metadata == {"category": "violence", "policy_version": "p7"}
    question, answer = await user.messages()
    assert (question.content, answer.content) == ("Hello", "")
    assert question.status == answer.status == conversation_pb2.MESSAGE_STATUS_BLOCKED
    record = await stage.usage.settled(stage.usage.acquire.requests[0].generation_id)
    assert record.usage == chat_pb2.TokenUsage()


async def test_the_same_request_id_may_be_sent_again_after_a_refusal(stage: Stage) -> None:
    user = await stage.user()
    request_id = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
    held = {name: Held() for name in NAMES}
    stage.prepare("Hello", **held)
    reader = user.stream(request_id=request_id)
    await asyncio.gather(*(call.called.wait() for call in held.values()))
    held["acquire"].reply(QUOTA)
    assert (await reader.refusal()).reason is Reason.QUOTA_EXCEEDED

    reader, start = await stage.turn(user, request_id=request_id)
    stage.engine.finish(start.generation_id, "Yes.")
    await reader.completed()


@pytest.mark.parametrize("who", ["acquire", "check_input", "route"])
async def test_a_peer_that_fails_is_not_passed_on_as_our_own_error(stage: Stage, who: str) -> None:
    refusal, heard, user = await refused(stage, who, RuntimeError("a secret of its own"))
    assert heard is grpc.StatusCode.UNAVAILABLE
    assert refusal.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert "secret" not in refusal.message
    assert await user.messages() == []


async def test_a_caller_whose_time_is_up_before_the_turn_began(stage: Stage) -> None:
    user = await stage.user()
    held = {name: Held() for name in NAMES}
    stage.prepare("Hello", **held)
    reader = user.stream(timeout=0.5)
    async with asyncio.timeout(10):
        await asyncio.gather(*(call.called.wait() for call in held.values()))
        refusal = await reader.refusal()
        # Each hop gives up before its caller does.
        await asyncio.gather(*(call.cancelled.wait() for call in held.values()))
    assert refusal.reason is Reason.DEADLINE_EXCEEDED
    await stage.usage.settled(stage.usage.acquire.requests[0].generation_id)
    assert await user.messages() == []
