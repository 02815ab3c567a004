"""The one tree of errors, and its form on the wire.

A handler raises a `DomainError`; the server turns it into a `google.rpc.Status` with an `ErrorInfo`, and the client of
another service turns that back into the same `DomainError`. So an error crosses any number of hops unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "chatmesh"

STATUS_DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata that carries the serialized `google.rpc.Status`."""

_Code = grpc.StatusCode


class Reason(StrEnum):
    """Why; the names of `chatmesh.errors.v1.ErrorReason` without their prefix, where each is described."""

    INTERNAL = "INTERNAL"
    INVALID_FIELD = "INVALID_FIELD"
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"  # noqa: S105 - a name, not a password
    UNAUTHENTICATED = "UNAUTHENTICATED"
    CONVERSATION_NOT_FOUND = "CONVERSATION_NOT_FOUND"
    MESSAGE_NOT_FOUND = "MESSAGE_NOT_FOUND"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MODEL_NOT_ALLOWED = "MODEL_NOT_ALLOWED"
    NO_REPLICA = "NO_REPLICA"
    CONTEXT_LENGTH_EXCEEDED = "CONTEXT_LENGTH_EXCEEDED"
    CONVERSATION_BUSY = "CONVERSATION_BUSY"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    RATE_LIMITED = "RATE_LIMITED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    OVERLOADED = "OVERLOADED"
    CONTENT_BLOCKED = "CONTENT_BLOCKED"
    DEPENDENCY_UNAVAILABLE = "DEPENDENCY_UNAVAILABLE"
    ENGINE_FAILED = "ENGINE_FAILED"
    UNSUPPORTED_PARAMETER = "UNSUPPORTED_PARAMETER"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    DRAINING = "DRAINING"
    INVALID_BODY = "INVALID_BODY"
    PROTOCOL_VIOLATION = "PROTOCOL_VIOLATION"
    INVALID_REQUEST = "INVALID_REQUEST"
    ROUTE_NOT_FOUND = "ROUTE_NOT_FOUND"
    REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE"
    GENERATION_NOT_FOUND = "GENERATION_NOT_FOUND"
    LOG_UNAVAILABLE = "LOG_UNAVAILABLE"
    ANSWER_LOST = "ANSWER_LOST"
    WRONG_MESSAGE_ROLE = "WRONG_MESSAGE_ROLE"
    SHARE_NOT_FOUND = "SHARE_NOT_FOUND"
    INVALID_IMPORT = "INVALID_IMPORT"
    UNSUPPORTED_RESPONSE_FORMAT = "UNSUPPORTED_RESPONSE_FORMAT"
    RESIDENCY_UNAVAILABLE = "RESIDENCY_UNAVAILABLE"
    UNSUPPORTED_CAPABILITY = "UNSUPPORTED_CAPABILITY"
    CONTENT_HELD = "CONTENT_HELD"
    EVENT_NOT_FOUND = "EVENT_NOT_FOUND"
    WRONG_EVENT_STATE = "WRONG_EVENT_STATE"


CODES: Mapping[Reason, grpc.StatusCode] = {
    Reason.INTERNAL: _Code.INTERNAL,
    Reason.INVALID_FIELD: _Code.INVALID_ARGUMENT,
    Reason.INVALID_PAGE_TOKEN: _Code.INVALID_ARGUMENT,
    Reason.UNAUTHENTICATED: _Code.UNAUTHENTICATED,
    Reason.CONVERSATION_NOT_FOUND: _Code.NOT_FOUND,
    Reason.MESSAGE_NOT_FOUND: _Code.NOT_FOUND,
    Reason.MODEL_NOT_FOUND: _Code.NOT_FOUND,
    Reason.MODEL_NOT_ALLOWED: _Code.PERMISSION_DENIED,
    Reason.NO_REPLICA: _Code.UNAVAILABLE,
    Reason.CONTEXT_LENGTH_EXCEEDED: _Code.INVALID_ARGUMENT,
    Reason.CONVERSATION_BUSY: _Code.FAILED_PRECONDITION,
    Reason.REQUEST_ID_REUSED: _Code.ALREADY_EXISTS,
    Reason.RATE_LIMITED: _Code.RESOURCE_EXHAUSTED,
    Reason.QUOTA_EXCEEDED: _Code.RESOURCE_EXHAUSTED,
    Reason.OVERLOADED: _Code.RESOURCE_EXHAUSTED,
    Reason.CONTENT_BLOCKED: _Code.FAILED_PRECONDITION,
    Reason.DEPENDENCY_UNAVAILABLE: _Code.UNAVAILABLE,
    Reason.ENGINE_FAILED: _Code.UNAVAILABLE,
    Reason.UNSUPPORTED_PARAMETER: _Code.INVALID_ARGUMENT,
    Reason.DEADLINE_EXCEEDED: _Code.DEADLINE_EXCEEDED,
    Reason.DRAINING: _Code.UNAVAILABLE,
    Reason.INVALID_BODY: _Code.INVALID_ARGUMENT,
    Reason.PROTOCOL_VIOLATION: _Code.INVALID_ARGUMENT,
    Reason.INVALID_REQUEST: _Code.INVALID_ARGUMENT,
    Reason.ROUTE_NOT_FOUND: _Code.NOT_FOUND,
    Reason.REQUEST_TOO_LARGE: _Code.INVALID_ARGUMENT,
    Reason.GENERATION_NOT_FOUND: _Code.NOT_FOUND,
    Reason.LOG_UNAVAILABLE: _Code.UNAVAILABLE,
    Reason.ANSWER_LOST: _Code.UNAVAILABLE,
    Reason.WRONG_MESSAGE_ROLE: _Code.FAILED_PRECONDITION,
    Reason.SHARE_NOT_FOUND: _Code.NOT_FOUND,
    Reason.INVALID_IMPORT: _Code.INVALID_ARGUMENT,
    Reason.UNSUPPORTED_RESPONSE_FORMAT: _Code.INVALID_ARGUMENT,
    Reason.RESIDENCY_UNAVAILABLE: _Code.UNAVAILABLE,
    Reason.UNSUPPORTED_CAPABILITY: _Code.INVALID_ARGUMENT,
    Reason.CONTENT_HELD: _Code.FAILED_PRECONDITION,
    Reason.EVENT_NOT_FOUND: _Code.NOT_FOUND,
    Reason.WRONG_EVENT_STATE: _Code.FAILED_PRECONDITION,
}


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that breaks its limits: its path such as `sampling.temperature`, and what is wrong with it."""

    field: str
    description: str


class DomainError(Exception):
    """An error that the caller is meant to see: a reason to match on, a text for people, details by name."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        fields: Sequence[FieldViolation] = (),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.fields = tuple(fields)

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC status code of the reason."""
        return CODES[self.reason]


def to_status(error: DomainError) -> status_pb2.Status:
    """The error as it goes on the wire."""
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=error.metadata)
    status.details.append(_pack(info))
    if error.fields:
        bad = error_details_pb2.BadRequest()
        for violation in error.fields:
            bad.field_violations.add(field=violation.field, description=violation.description)
        status.details.append(_pack(bad))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromTimedelta(timedelta(seconds=error.retry_after_s))
        status.details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status


def from_status(status: status_pb2.Status) -> DomainError | None:
    """The error behind a status, or None when it is not one of ours."""
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    found: Reason | None = None
    fields: list[FieldViolation] = []
    retry_after_s: float | None = None
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in Reason.__members__:
            found = Reason(info.reason)
        elif detail.Unpack(bad):
            fields = [FieldViolation(v.field, v.description) for v in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    if found is None:
        return None
    return DomainError(found, status.message, metadata=dict(info.metadata), retry_after_s=retry_after_s, fields=fields)


def from_rpc_error(error: grpc.aio.AioRpcError, *, service: str) -> DomainError:
    """The error that a call to another service ended in.

    A status that is not ours, or that says no more than "internal", must not be passed on as if it were our own
    answer: for this caller the dependency is what failed.
    """
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            try:
                domain_error = from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                break
            if domain_error is not None and domain_error.reason is not Reason.INTERNAL:
                return domain_error
    if error.code() is _Code.DEADLINE_EXCEEDED:
        return DomainError(
            Reason.DEADLINE_EXCEEDED, f"The {service} service did not answer in time.", metadata={"service": service}
        )
    return DomainError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"The {service} service is not available; try again shortly.",
        metadata={"service": service, "code": error.code().name},
    )


def first_error(group: BaseExceptionGroup[DomainError]) -> DomainError:
    """The first of several errors that came together."""
    error: BaseExceptionGroup[DomainError] | DomainError = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def internal_error(request_id: str) -> DomainError:
    """What a caller is told about an exception that nobody foresaw. The text never holds the exception's own."""
    return DomainError(
        Reason.INTERNAL,
        f"Internal error. If it stays, report request id {request_id}." if request_id else "Internal error.",
        metadata={"request_id": request_id},
    )


def _pack(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
