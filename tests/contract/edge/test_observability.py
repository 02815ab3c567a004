"""The access log and Envoy's own spans: enough to follow a request, nothing that a user wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from chatmesh.conversation.v1 import conversation_pb2, conversation_service_pb2, share_service_pb2
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
    script.on("GetSharedConversation", shared)
    link = await http.get("/v1/shared/SECRET6")
    await http.post("/v1/shared/SECRET7:continue")
    await http.delete("/v1/shares/SECRET8")
    await http.put("/v1/shared/SECRET9", headers=headers)
    last = await http.get("/v1/models?access_token=SECRET5")

    async def logged() -> bool:
        return last.headers["x-request-id"] in edge.log.read_text()

    await until(logged, what="the access log is flushed")
    entry = next(e for e in edge.access_log() if e["request_id"] == response.headers["x-request-id"])
    assert entry["path"] == "/v1/conversations"
    assert (entry["method"], entry["status"], entry["service"]) == ("GET", 200, "envoy")
    assert entry["duration_ms"] >= 0
    (entry,) = [e for e in edge.access_log() if e["request_id"] == link.headers["x-request-id"]]
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/v1/share", 200)
    text = edge.log.read_text()
    assert "SECRET" not in text
    assert headers["authorization"].rpartition(".")[2] not in text
    assert "/healthz" not in text


async def shared(_request: object, _context: object) -> object:
    return share_service_pb2.SharedConversation()


async def copied(_request: object, _context: object) -> object:
    return conversation_pb2.Conversation()


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []

    async def Export(self, request: Any, _context: object) -> object:
        for resource in request.resource_spans:
            attributes = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans.extend((attributes.get("service.name", ""), span) for span in scope.spans)
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
    script.on("GetSharedConversation", shared)
    script.on("ContinueSharedConversation", copied)
    config = make_config("traced", otlp_endpoint=f"http://127.0.0.1:{port}")
    async with running_edge(config, directory / "traced") as edge, edge.http() as http:
        response = await http.get("/v1/conversations?page_token=SECRET", headers=keys.bearer())
        assert response.status_code == 200
        assert (await http.get("/v1/shared/SECRET?page_token=SECRET")).status_code == 200
        assert (await http.delete("/v1/shares/SECRET")).status_code == 401
        assert (await http.post("/v1/shared/SECRET:continue", headers=keys.bearer(), json={})).status_code == 200

        async def all_arrived() -> bool:
            return len([span for _, span in collector.spans if span.name == "ingress"]) == 4

        await until(all_arrived, what="the spans are sent")
    await server.stop(0)
    traceparent = str(script.calls[0].metadata["traceparent"])
    name, span = next(entry for entry in collector.spans if traceparent.split("-")[1] == entry[1].trace_id.hex())
    assert name == "envoy"
    assert traceparent.split("-")[1] == span.trace_id.hex()
    assert traceparent.split("-")[3] == "01"
    assert "SECRET" not in str(collector.spans)


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
