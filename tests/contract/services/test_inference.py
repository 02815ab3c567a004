"""Unary RPCs of Inference."""

from __future__ import annotations

from typing import Any

import grpc

from chatmesh.inference.v1 import inference_service_pb2 as pb
from chatmesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub

SERVICE = "inference"
STUB = InferenceServiceStub


def test_tokens_are_counted_by_the_models_own_tokenizer(grpc_stub: InferenceServiceStub) -> None:
    texts = ["", "hello", "hello world, how are you?", "🙂"]
    counted = grpc_stub.CountTokens(pb.CountTokensRequest(model="smollm2-135m", texts=texts), timeout=10)
    assert list(counted.counts)[:2] == [0, 1]
    assert 4 < counted.counts[2] < len(texts[2])
    assert 0 < counted.counts[3] <= len(texts[3].encode())
    assert counted.tokens_per_message > 0


def test_an_unknown_model_is_not_found(grpc_stub: InferenceServiceStub, refusal: Any) -> None:
    code, reason, _ = refusal(grpc_stub.CountTokens, pb.CountTokensRequest(model="gpt-9", texts=["x"]))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")


def test_a_model_must_be_named(grpc_stub: InferenceServiceStub, refusal: Any) -> None:
    code, reason, _ = refusal(grpc_stub.CountTokens, pb.CountTokensRequest(texts=["x"]))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
