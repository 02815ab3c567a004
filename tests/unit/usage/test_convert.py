"""What a client sees that is over its limit."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from google.rpc import status_pb2

from chatmesh.type.v1 import chat_pb2
from chatmesh.usage.v1 import rate_limit_pb2, usage_service_pb2
from services.runtime.errors import DomainError, Reason, from_status
from services.usage.check_rate import RateDecision
from services.usage.convert import decision_to, records_from
from services.usage.model import RateLimit, RateStanding, Surface

LIMIT = RateLimit("free", 60, 30)
STANDING = RateStanding(LIMIT, allowed=False, remaining=0, retry_s=0.4, reset_s=29.2)
REFUSAL = DomainError(
    Reason.RATE_LIMITED, "Too many.", metadata={"limit": "60", "window_seconds": "60"}, retry_after_s=0.4
)


def headers_of(response: rate_limit_pb2.RateLimitResponse) -> dict[str, str]:
    return {header.key: header.value for header in response.response_headers_to_add}


def refused(
    surface: Surface, standings: Sequence[RateStanding | None] = (STANDING,)
) -> rate_limit_pb2.RateLimitResponse:
    return decision_to(RateDecision(standings, surface, REFUSAL))


def test_over_limit_is_a_google_status() -> None:
    response = refused(Surface.NATIVE)
    assert response.overall_code == rate_limit_pb2.RATE_LIMIT_CODE_OVER_LIMIT
    body = json.loads(response.raw_body)
    assert body["code"] == 8
    info, retry = body["details"]
    assert info == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "RATE_LIMITED",
        "domain": "chatmesh",
        "metadata": {"limit": "60", "window_seconds": "60"},
    }
    assert retry == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retry_delay": "0.400s"}
    assert headers_of(response)["retry-after"] == "1"
    assert headers_of(response)["content-type"] == "application/json"


def test_a_grpc_client_finds_the_typed_error_in_the_trailers() -> None:
    encoded = headers_of(refused(Surface.NATIVE))["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
    error = from_status(status)
    assert error is not None
    assert (error.reason, error.retry_after_s) == (Reason.RATE_LIMITED, 0.4)


def test_over_limit_in_the_form_of_openai() -> None:
    response = refused(Surface.OPENAI)
    assert json.loads(response.raw_body) == {
        "error": {"message": "Too many.", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
    }
    assert "grpc-status-details-bin" not in headers_of(response)


def test_statuses_tell_envoy_what_to_print() -> None:
    response = refused(Surface.NATIVE, [None, STANDING])
    ignored, counted = response.statuses
    assert ignored.code == rate_limit_pb2.RATE_LIMIT_CODE_OK
    assert not ignored.HasField("current_limit")
    assert counted.code == rate_limit_pb2.RATE_LIMIT_CODE_OVER_LIMIT
    assert (counted.current_limit.requests_per_unit, counted.current_limit.name) == (60, "free")
    assert counted.current_limit.unit == rate_limit_pb2.RATE_LIMIT_UNIT_MINUTE
    assert counted.duration_until_reset.seconds == 30


def test_within_the_limit_there_is_no_body() -> None:
    response = decision_to(RateDecision([RateStanding(LIMIT, True, 29, 0.0, 1.0)], Surface.NATIVE))
    assert response.overall_code == rate_limit_pb2.RATE_LIMIT_CODE_OK
    assert response.statuses[0].limit_remaining == 29
    assert not response.raw_body
    assert not response.response_headers_to_add


def test_records() -> None:
    message = usage_service_pb2.UsageRecord(
        generation_id="g",
        user_id="ann",
        model="m",
        tier="free",
        usage=chat_pb2.TokenUsage(prompt_tokens=3, completion_tokens=4, cached_tokens=1),
        finish_reason=chat_pb2.FINISH_REASON_CONTENT_FILTER,
    )
    message.end_time.FromDatetime(datetime(2026, 1, 2, 23, 59, 59, tzinfo=UTC))
    (record,) = records_from([message])
    assert (record.tokens, record.day.isoformat(), record.finish_reason) == (7, "2026-01-02", "content_filter")
    message.finish_reason = 77  # type: ignore[assignment]  # a value of a newer contract
    assert records_from([message])[0].finish_reason == "77"
