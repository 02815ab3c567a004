"""Errors on the wire: what one service raises is what the next one raises, however many there are between."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from chatmesh.errors.v1 import errors_pb2
from services.runtime.errors import (
    CODES,
    STATUS_DETAILS_KEY,
    DomainError,
    FieldViolation,
    Reason,
    first_error,
    from_rpc_error,
    from_status,
    to_status,
)

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)
errors = st.builds(
    DomainError,
    st.sampled_from(Reason),
    texts,
    metadata=st.dictionaries(texts, texts, max_size=3),
    retry_after_s=st.none() | st.integers(0, 86_400_000).map(lambda ms: ms / 1000),
    fields=st.lists(st.builds(FieldViolation, texts, texts), max_size=3),
)


def parts(error: DomainError) -> tuple[object, ...]:
    return error.reason, error.message, error.metadata, error.retry_after_s, error.fields, error.code


def rpc_error(code: grpc.StatusCode, details: bytes | None = None, text: str = "") -> grpc.aio.AioRpcError:
    trailers = grpc.aio.Metadata(*([(STATUS_DETAILS_KEY, details)] if details is not None else []))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details=text)


@given(errors)
def test_an_error_is_the_same_after_a_hop(error: DomainError) -> None:
    status = status_pb2.Status.FromString(to_status(error).SerializeToString())
    read = from_status(status)
    assert read is not None
    assert parts(read) == parts(error)


@given(errors.filter(lambda error: error.reason is not Reason.INTERNAL))
def test_an_error_of_ours_is_passed_on(error: DomainError) -> None:
    details = to_status(error).SerializeToString()
    assert parts(from_rpc_error(rpc_error(error.code, details), service="router")) == parts(error)


def test_every_reason_of_the_catalogue_has_a_code() -> None:
    names = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert names == set(Reason.__members__) == {reason.name for reason in CODES}


@pytest.mark.parametrize(
    "details",
    [
        None,
        b"\xff\xff",
        status_pb2.Status(code=13, message="secret").SerializeToString(),
        to_status(DomainError(Reason.INTERNAL, "secret")).SerializeToString(),
    ],
)
@pytest.mark.parametrize("code", [grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE])
def test_what_is_not_ours_is_a_dependency_that_failed(details: bytes | None, code: grpc.StatusCode) -> None:
    error = from_rpc_error(rpc_error(code, details, "secret"), service="router")
    assert error.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert error.metadata == {"service": "router", "code": code.name}
    assert "secret" not in error.message


def test_a_deadline_stays_one() -> None:
    error = from_rpc_error(rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED), service="router")
    assert (error.reason, error.metadata) == (Reason.DEADLINE_EXCEEDED, {"service": "router"})


@pytest.mark.parametrize(("domain", "reason"), [("example.com", "NO_REPLICA"), ("chatmesh", "NO_SUCH_REASON")])
def test_an_error_of_somebody_else_is_none(domain: str, reason: str) -> None:
    status = status_pb2.Status(code=14)
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain=domain, reason=reason))
    assert from_status(status) is None


def test_of_errors_that_come_together_the_first_is_told() -> None:
    first, second = DomainError(Reason.OVERLOADED, "one"), DomainError(Reason.NO_REPLICA, "two")
    inner = ExceptionGroup("", [first])
    assert first_error(BaseExceptionGroup("", [inner, second])) is first  # type: ignore[list-item]
