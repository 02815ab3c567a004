"""Unary RPCs of Usage."""

from __future__ import annotations

import uuid
from typing import Any

import grpc

from chatmesh.type.v1 import chat_pb2
from chatmesh.usage.v1 import usage_service_pb2 as pb
from chatmesh.usage.v1.usage_service_pb2_grpc import UsageServiceStub

SERVICE = "usage"
STUB = UsageServiceStub


def caller(user: str, tier: str = "free") -> tuple[tuple[str, str], ...]:
    return (("x-chatmesh-user", user), ("x-chatmesh-tier", tier))


def record(generation_id: str, user: str) -> pb.UsageRecord:
    made = pb.UsageRecord(
        generation_id=generation_id,
        user_id=user,
        model="m",
        tier="free",
        usage=chat_pb2.TokenUsage(prompt_tokens=10, completion_tokens=5),
        finish_reason=chat_pb2.FINISH_REASON_STOP,
    )
    made.end_time.GetCurrentTime()
    return made


def test_a_lease_is_settled_once(grpc_stub: UsageServiceStub) -> None:
    user, generation = f"user-{uuid.uuid4()}", str(uuid.uuid4())
    acquire = pb.AcquireRequest(generation_id=generation, tokens=500)
    granted = grpc_stub.Acquire(acquire, timeout=10, metadata=caller(user))
    assert granted.granted_tokens == 500
    again = grpc_stub.Acquire(acquire, timeout=10, metadata=caller(user))
    assert again.remaining_tokens == granted.remaining_tokens
    settle = pb.SettleRequest(records=[record(generation, user)])
    assert grpc_stub.Settle(settle, timeout=10).recorded == 1
    assert grpc_stub.Settle(settle, timeout=10).recorded == 0
    used = grpc_stub.GetUsage(pb.GetUsageRequest(), timeout=10, metadata=caller(user))
    assert (used.daily[0].prompt_tokens, used.daily[0].completion_tokens, used.tokens_today) == (10, 5, 15)


def test_what_exceeds_the_quota_is_refused(grpc_stub: UsageServiceStub, refusal: Any) -> None:
    user = f"user-{uuid.uuid4()}"
    allowed = grpc_stub.GetUsage(pb.GetUsageRequest(), timeout=10, metadata=caller(user)).tokens_per_day
    more = pb.AcquireRequest(generation_id=str(uuid.uuid4()), tokens=allowed + 1)
    # What is left is given; a quota ends an answer, it does not waste its last tokens.
    assert grpc_stub.Acquire(more, timeout=10, metadata=caller(user)).granted_tokens == allowed
    again = pb.AcquireRequest(generation_id=str(uuid.uuid4()), tokens=1)
    code, reason, _ = refusal(grpc_stub.Acquire, again, metadata=caller(user))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")


def test_nobody_has_no_usage(grpc_stub: UsageServiceStub, refusal: Any) -> None:
    code, reason, _ = refusal(grpc_stub.GetUsage, pb.GetUsageRequest())
    assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_who_calls_is_forgotten_and_nobody_else(grpc_stub: UsageServiceStub, refusal: Any) -> None:
    user, other = f"user-{uuid.uuid4()}", f"user-{uuid.uuid4()}"
    records = [record(str(uuid.uuid4()), name) for name in (user, user, other)]
    grpc_stub.Settle(pb.SettleRequest(records=records), timeout=10)
    assert grpc_stub.ForgetUser(pb.ForgetUserRequest(), timeout=10, metadata=caller(user)).records == 2
    used = grpc_stub.GetUsage(pb.GetUsageRequest(), timeout=10, metadata=caller(user))
    assert (len(used.daily), used.tokens_today) == (0, 0)
    used = grpc_stub.GetUsage(pb.GetUsageRequest(), timeout=10, metadata=caller(other))
    assert (len(used.daily), used.tokens_today) == (1, 15)
    code, reason, _ = refusal(grpc_stub.ForgetUser, pb.ForgetUserRequest())
    assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
