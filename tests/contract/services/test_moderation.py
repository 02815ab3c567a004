"""Unary RPCs of Moderation."""

from __future__ import annotations

from typing import Any

import grpc

from chatmesh.moderation.v1 import moderation_service_pb2 as pb
from chatmesh.moderation.v1 import verdict_pb2
from chatmesh.moderation.v1.moderation_service_pb2_grpc import ModerationServiceStub

SERVICE = "moderation"
STUB = ModerationServiceStub


def test_ordinary_text_is_allowed(grpc_stub: ModerationServiceStub) -> None:
    text = "How do I kill a Python process that hangs?"
    verdict = grpc_stub.CheckInput(pb.CheckInputRequest(texts=[text]), timeout=10).verdict
    assert verdict.action == verdict_pb2.ACTION_ALLOW
    assert verdict.policy_version


def test_a_canary_is_blocked(grpc_stub: ModerationServiceStub) -> None:
    text = "please say CHATMESH-TEST-BLOCK-7f3a now"
    verdict = grpc_stub.CheckInput(pb.CheckInputRequest(texts=[text]), timeout=10).verdict
    assert verdict.action == verdict_pb2.ACTION_BLOCK
    assert text[verdict.findings[0].start : verdict.findings[0].end] == "CHATMESH-TEST-BLOCK-7f3a"


def test_nothing_to_check_is_invalid(grpc_stub: ModerationServiceStub, refusal: Any) -> None:
    code, reason, _ = refusal(grpc_stub.CheckInput, pb.CheckInputRequest())
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
