"""The W3C trace context, as read from metadata."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace

from services.runtime.telemetry import current_traceparent, parent_context, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_what_is_written_is_what_is_read(trace_id: int, span_id: int, sampled: bool) -> None:
    value = f"00-{trace_id:032x}-{span_id:016x}-{int(sampled):02x}"
    context = parse_traceparent(value)
    assert context is not None
    assert (context.trace_id, context.span_id, context.trace_flags.sampled) == (trace_id, span_id, sampled)
    with trace.use_span(trace.NonRecordingSpan(context)):
        assert current_traceparent() == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}0-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{'g' * 32}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-zz",
    ],
)
def test_what_is_none(value: str) -> None:
    assert parse_traceparent(value) is None


@given(st.text())
def test_no_text_breaks_it(value: str) -> None:
    parse_traceparent(value)
    parent_context(value, value)


def test_a_call_without_a_trace_begins_the_one_that_its_request_id_names() -> None:
    request_id = uuid.uuid4()
    span = trace.get_current_span(parent_context("", str(request_id)))
    assert span.get_span_context().trace_id == request_id.int


def test_the_trace_of_the_caller_comes_before_the_request_id() -> None:
    span = trace.get_current_span(parent_context(f"00-{TRACE}-{SPAN}-01", str(uuid.uuid4())))
    assert span.get_span_context().trace_id == int(TRACE, 16)


def test_outside_of_a_span() -> None:
    assert current_traceparent() == ""
