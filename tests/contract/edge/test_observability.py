"""The access log and Envoy's own spans: enough to follow a request, nothing that a user wrote."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from chatmesh.conversation.v1 import conversation_service_pb2
from tests.contract.edge.conftest import MakeConfig
from tests.contract.edge.fakes import Script
from tests.contract.edge.process import Edge, Keys, running_edge, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def page(_request: object, _context: object) -> object:
    return conversation_service_pb2.ListConversationsResponse()


async def test_the_access_log_names_the_request_and_not_its_content(
    http: httpx.AsyncClient, edge: Edge, script: Script, keys: Keys
) -> None:
    script.on("ListConversations", page)
    headers = keys.bearer()
    response = await http.get("/v1/conversations?page_token=SECRET1", headers=headers)
    await http.get("/v1/conversations?SECRET2=1", headers=headers)
    await http.post("/v1/conversations", headers=headers, content=b'{"title": SECRET3}')
    await http.get("/nothing?q=SECRET4")
    last = await http.get("/v1/models?access_token=SECRET5")

    async def logged() -> bool:
        return last.headers["x-request-id"] in edge.log.read_text()

    await until(logged, what="the access log is flushed")
    entry = next(e for e in edge.access_log() if e["request_id"] == response.headers["x-request-id"])
    assert entry["path"] == "/v1/conversations"
    assert (entry["method"], entry["status"], entry["service"]) == ("GET", 200, "envoy")
    assert entry["duration_ms"] >= 0
    text = edge.log.read_text()
    assert "SECRET" not in text
    assert headers["authorization"].rpartition(".")[2] not in text
    assert "/healthz" not in text


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        self.arrived = asyncio.Event()

    async def Export(self, request: Any, _context: object) -> object:
        for resource in request.resource_spans:
            attributes = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans.extend((attributes.get("service.name", ""), span) for span in scope.spans)
        self.arrived.set()
        return trace_service_pb2.ExportTraceServiceResponse()


async def test_with_a_collector_envoy_starts_the_trace_and_sends_its_span(
    make_config: MakeConfig, directory: Path, script: Script, keys: Keys
) -> None:
    collector = Collector()
    server = grpc.aio.server()
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    script.on("ListConversations", page)
    config = make_config("traced", otlp_endpoint=f"http://127.0.0.1:{port}")
    async with running_edge(config, directory / "traced") as edge, edge.http() as http:
        response = await http.get("/v1/conversations?page_token=SECRET", headers=keys.bearer())
        assert response.status_code == 200
        await asyncio.wait_for(collector.arrived.wait(), 15)
    await server.stop(0)
    traceparent = str(script.only_call().metadata["traceparent"])
    name, span = collector.spans[0]
    assert name == "envoy"
    assert traceparent.split("-")[1] == span.trace_id.hex()
    assert traceparent.split("-")[3] == "01"
    assert "SECRET" not in str(span)


async def test_without_a_collector_the_request_id_is_all_there_is(
    http: httpx.AsyncClient, script: Script, keys: Keys
) -> None:
    """The services take it for the trace id, see services.runtime.telemetry."""
    script.on("ListConversations", page)
    response = await http.get("/v1/conversations", headers=keys.bearer())
    metadata = script.only_call().metadata
    assert "traceparent" not in metadata
    assert metadata["x-request-id"] == response.headers["x-request-id"]
    assert len(str(metadata["x-request-id"]).replace("-", "")) == 32
