"""Between the words of usage and its contracts."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Sequence
from datetime import UTC

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from chatmesh.type.v1 import chat_pb2
from chatmesh.usage.v1 import rate_limit_pb2, usage_service_pb2
from services.runtime.errors import STATUS_DETAILS_KEY, DomainError, Reason, to_status
from services.usage.check_rate import RateDecision
from services.usage.model import Lease, RateStanding, Surface, UsageRecord, UsageReport

_FINISH_PREFIX = "FINISH_REASON_"


def descriptors_from(request: rate_limit_pb2.RateLimitRequest) -> list[dict[str, str]]:
    """The descriptors as mappings."""
    return [{entry.key: entry.value for entry in descriptor.entries} for descriptor in request.descriptors]


def decision_to(decision: RateDecision) -> rate_limit_pb2.RateLimitResponse:
    """The answer to Envoy, with the whole response to the client when it may not pass."""
    response = rate_limit_pb2.RateLimitResponse(
        overall_code=rate_limit_pb2.RATE_LIMIT_CODE_OK,
        statuses=[_status_to(standing) for standing in decision.standings],
    )
    refusal = decision.refusal
    if refusal is not None:
        response.overall_code = rate_limit_pb2.RATE_LIMIT_CODE_OVER_LIMIT
        response.raw_body = _openai_body(refusal) if decision.surface is Surface.OPENAI else _native_body(refusal)
        response.response_headers_to_add.extend(
            rate_limit_pb2.RateLimitHeader(key=key, value=value) for key, value in _headers(refusal, decision.surface)
        )
    return response


def _status_to(standing: RateStanding | None) -> rate_limit_pb2.RateLimitDescriptorStatus:
    if standing is None:
        return rate_limit_pb2.RateLimitDescriptorStatus(code=rate_limit_pb2.RATE_LIMIT_CODE_OK)
    over, ok = rate_limit_pb2.RATE_LIMIT_CODE_OVER_LIMIT, rate_limit_pb2.RATE_LIMIT_CODE_OK
    return rate_limit_pb2.RateLimitDescriptorStatus(
        code=ok if standing.allowed else over,
        current_limit=rate_limit_pb2.RateLimitQuota(
            requests_per_unit=standing.limit.requests_per_minute,
            unit=rate_limit_pb2.RATE_LIMIT_UNIT_MINUTE,
            name=standing.limit.name,
        ),
        limit_remaining=standing.remaining,
        # Envoy prints whole seconds and cuts the rest off: rounded up, so that nobody comes back too early.
        duration_until_reset=Duration(seconds=math.ceil(standing.reset_s)),
    )


def _headers(refusal: DomainError, surface: Surface) -> Iterable[tuple[str, str]]:
    yield "content-type", "application/json"
    yield "retry-after", str(max(1, math.ceil(refusal.retry_after_s or 0)))
    if surface is Surface.NATIVE:
        # Envoy makes trailers of these for a gRPC client, which finds the typed error there.
        encoded = base64.b64encode(to_status(refusal).SerializeToString()).rstrip(b"=")
        yield STATUS_DETAILS_KEY, encoded.decode()


def _native_body(refusal: DomainError) -> bytes:
    return json_format.MessageToJson(to_status(refusal), preserving_proto_field_name=True, indent=None).encode()


def _openai_body(refusal: DomainError) -> bytes:
    limited = refusal.reason is Reason.RATE_LIMITED
    error = {
        "message": refusal.message,
        "type": "requests" if limited else "server_error",
        "param": None,
        "code": "rate_limit_exceeded" if limited else refusal.reason.value.lower(),
    }
    return json.dumps({"error": error}).encode()


def records_from(records: Iterable[usage_service_pb2.UsageRecord]) -> Sequence[UsageRecord]:
    """What generations used."""
    return [
        UsageRecord(
            generation_id=record.generation_id,
            user_id=record.user_id,
            conversation_id=record.conversation_id,
            model=record.model,
            tier=record.tier,
            prompt_tokens=record.usage.prompt_tokens,
            completion_tokens=record.usage.completion_tokens,
            cached_tokens=record.usage.cached_tokens,
            finish_reason=_finish_reason_from(record.finish_reason),
            ended_at=record.end_time.ToDatetime(UTC),
        )
        for record in records
    ]


def _finish_reason_from(value: chat_pb2.FinishReason) -> str:
    known = chat_pb2.FinishReason.values()
    return chat_pb2.FinishReason.Name(value).removeprefix(_FINISH_PREFIX).lower() if value in known else str(value)


def lease_to(lease: Lease) -> usage_service_pb2.AcquireResponse:
    """The lease as it goes on the wire."""
    response = usage_service_pb2.AcquireResponse(granted_tokens=lease.granted, remaining_tokens=lease.remaining)
    response.expire_time.FromDatetime(lease.expires_at)
    return response


def report_to(report: UsageReport) -> usage_service_pb2.GetUsageResponse:
    """The report as it goes on the wire."""
    return usage_service_pb2.GetUsageResponse(
        daily=[
            usage_service_pb2.DailyUsage(
                date=row.day.isoformat(),
                model=row.model,
                generations=row.generations,
                prompt_tokens=row.prompt_tokens,
                completion_tokens=row.completion_tokens,
            )
            for row in report.daily
        ],
        tier=report.tier,
        tokens_per_day=report.tokens_per_day,
        tokens_today=report.tokens_today,
    )
