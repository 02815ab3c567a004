"""One turn seen by an OpenTelemetry collector, in the logs and in the metrics; and the user's words in none of them."""

from __future__ import annotations

import json
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.mesh_process import MeshProcess, eventually, running_mesh

SECRET_WORDS = "the otter sleeps at noon"
SERVICES = {
    "envoy",
    *(f"chatmesh-{name}" for name in ("conversation", "context", "router", "moderation", "inference", "usage")),
}


class Collector(trace_service_pb2_grpc.TraceServiceServicer, metrics_service_pb2_grpc.MetricsServiceServicer):
    """Keeps the spans that it is sent, by the service that sent them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[tuple[str, Span]] = []

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        if isinstance(request, metrics_service_pb2.ExportMetricsServiceRequest):
            return metrics_service_pb2.ExportMetricsServiceResponse()
        with self._lock:
            for resource in request.resource_spans:
                attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    self._spans.extend((attributes["service.name"], span) for span in scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def trace(self, trace_id: str) -> dict[str, list[Span]]:
        """The spans of one trace, by service."""
        found: dict[str, list[Span]] = defaultdict(list)
        with self._lock:
            for service, span in self._spans:
                if span.trace_id.hex() == trace_id:
                    found[service].append(span)
        return found

    def everything(self) -> str:
        """All that was sent, as text."""
        with self._lock:
            return "\n".join(str(span) for _, span in self._spans)


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, str]]:
    server = grpc.server(ThreadPoolExecutor(4))
    made = Collector()
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(made, server)
    add = metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server
    add(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield made, f"127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture(scope="module")
def traced_mesh(collector: tuple[Collector, str]) -> Iterator[MeshProcess]:
    with running_mesh(extra={"CHATMESH_OTLP_ENDPOINT": collector[1]}) as mesh:
        yield mesh


def turn(mesh: MeshProcess, content: str, *, headers: dict[str, str] | None = None) -> httpx.Response:
    token = mesh.token(user=f"user-{uuid.uuid4()}")
    with httpx.Client(base_url=mesh.url, headers={"authorization": f"Bearer {token}"}, timeout=60) as http:
        made = http.post("/v1/conversations", json={"model": "synthetic-fast"})
        path = f"/v1/conversations/{made.json()['id']}/messages"
        answer = http.post(path, json={"content": content}, headers=headers or {})
        assert answer.status_code == 200, answer.text
        return answer


def parents_elsewhere(spans: dict[str, list[Span]]) -> set[bytes]:
    """Parents that are no spans of the trace."""
    ids = {span.span_id for found in spans.values() for span in found}
    return {span.parent_span_id for found in spans.values() for span in found} - ids


def test_a_turn_is_one_trace_with_a_span_in_every_service(
    traced_mesh: MeshProcess, collector: tuple[Collector, str]
) -> None:
    trace_id = uuid.uuid4().hex
    turn(traced_mesh, SECRET_WORDS, headers={"traceparent": f"00-{trace_id}-{'1' * 16}-01"})
    eventually(lambda: collector[0].trace(trace_id), lambda found: set(found) >= SERVICES)
    # They hang together: every parent but the caller's is a span of the same trace, though it may be sent later.
    eventually(
        lambda: parents_elsewhere(collector[0].trace(trace_id)), lambda found: found == {bytes.fromhex("1" * 16)}
    )
    assert SECRET_WORDS not in collector[0].everything()


def test_without_a_collector_the_request_id_of_the_edge_is_the_trace_id_in_every_log(mesh: MeshProcess) -> None:
    answer = turn(mesh, SECRET_WORDS)
    request_id = answer.headers["x-request-id"]
    assert str(uuid.UUID(request_id)) == request_id
    line = eventually(
        lambda: [
            entry
            for entry in (
                json.loads(line)
                for line in (mesh.home / "logs" / "envoy.log").read_text().splitlines()
                if line.startswith("{")
            )
            if request_id in json.dumps(entry)
        ],
        bool,
    )
    assert line
    for log in (mesh.home / "logs").iterdir():
        assert SECRET_WORDS not in log.read_text(errors="replace"), log.name


def test_every_service_serves_metrics(mesh: MeshProcess) -> None:
    turn(mesh, "hello")
    for name, process in mesh.status().items():
        if name in ("envoy", "redis", "postgres"):
            continue
        started = [
            json.loads(line)
            for line in (mesh.home / "logs" / f"{name}.log").read_text().splitlines()
            if '"listening"' in line
        ]
        address = started[-1]["metrics_address"]
        text = httpx.get(f"http://{address}/metrics").text
        assert "rpc_server_call_duration_seconds_bucket" in text, process
