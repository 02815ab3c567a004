"""Traces and metrics.

Every call belongs to the trace of its caller. At the edge the trace id is Envoy's request id, so that one id finds a
request in Envoy's log, in every service's log and in the trace. Spans are recorded only when there is somewhere to
send them; ids are passed on either way. Metrics are always there on `/metrics` for Prometheus.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer
from prometheus_client import start_http_server

if TYPE_CHECKING:
    from services.runtime.settings import ServiceSettings

TRACEPARENT_KEY = "traceparent"

_log = logging.getLogger(__name__)


class Telemetry:
    """The tracer and the meter of a process."""

    def __init__(self, *, tracer: Tracer, meter: Meter, metrics_address: str) -> None:
        self.tracer = tracer
        self.meter = meter
        self.metrics_address = metrics_address

    @classmethod
    @contextmanager
    def start(cls, service: str, settings: ServiceSettings) -> Iterator[Telemetry]:
        """Serve `/metrics`, and export by OTLP when an endpoint is set, until the context ends."""
        resource = Resource.create(
            {
                "service.name": f"chatmesh-{service}",
                "service.instance.id": settings.replica,
                "cloud.region": settings.region,
                "cloud.availability_zone": settings.zone,
            }
        )
        readers: list[MetricReader] = [PrometheusMetricReader()]
        exporting = bool(settings.otlp_endpoint)
        tracers = TracerProvider(
            resource=resource, sampler=ParentBased(ALWAYS_ON) if exporting else ALWAYS_OFF, shutdown_on_exit=False
        )
        if exporting:
            endpoint = settings.otlp_endpoint
            tracers.add_span_processor(
                BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True), schedule_delay_millis=1000)
            )
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=endpoint, insecure=True)))
        meters = MeterProvider(resource=resource, metric_readers=readers, shutdown_on_exit=False)
        host, _, port = settings.metrics_listen.rpartition(":")
        http_server, _thread = start_http_server(int(port), addr=host)
        try:
            yield cls(
                tracer=tracers.get_tracer("chatmesh"),
                meter=meters.get_meter("chatmesh"),
                metrics_address=f"{host}:{http_server.server_port}",
            )
        finally:
            tracers.shutdown()
            meters.shutdown()
            http_server.shutdown()


def parent_context(traceparent: str, request_id: str) -> Context:
    """The context that a call continues: the caller's trace, or a new one whose id is the request id."""
    span_context = parse_traceparent(traceparent) or _from_request_id(request_id)
    if span_context is None:
        return Context()
    return trace.set_span_in_context(NonRecordingSpan(span_context), Context())


def parse_traceparent(value: str) -> SpanContext | None:
    """Read a W3C `traceparent`; None when it is none. https://www.w3.org/TR/trace-context/"""
    parts = value.split("-")
    if len(parts) < 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return None
    try:
        context = SpanContext(
            trace_id=int(parts[1], 16),
            span_id=int(parts[2], 16),
            is_remote=True,
            trace_flags=TraceFlags(int(parts[3], 16)),
        )
    except ValueError:
        return None
    return context if context.is_valid else None


def current_traceparent() -> str:
    """The W3C `traceparent` of the current span; empty outside of one."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _from_request_id(request_id: str) -> SpanContext | None:
    try:
        value = uuid.UUID(request_id).int
    except ValueError:
        return None
    return SpanContext(
        trace_id=value,
        span_id=value & (2**64 - 1) or 1,
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
