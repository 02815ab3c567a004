"""Context as a process of its own, and an inference replica whose tokenizer takes a word for a token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from chatmesh.inference.v1 import inference_service_pb2
from chatmesh.inference.v1.inference_service_pb2_grpc import (
    InferenceServiceServicer,
    add_InferenceServiceServicer_to_server,
)

ROOT = Path(__file__).parents[3]
DEADLINE_S = 20.0

CountRequest = inference_service_pb2.CountTokensRequest
CountResponse = inference_service_pb2.CountTokensResponse


@dataclass
class FakeTokenizer(InferenceServiceServicer):
    """Counts words; 2 tokens a message and 3 a prompt for the template. Keeps what it was asked."""

    asked: list[tuple[str, list[str]]] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    lies: bool = False

    def __post_init__(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        add_InferenceServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    @property
    def texts_counted(self) -> list[str]:
        return [text for _, texts in self.asked for text in texts]

    def stop(self) -> None:
        self._server.stop(0).wait()

    def CountTokens(self, request: CountRequest, context: grpc.ServicerContext) -> CountResponse:
        self.asked.append((request.model, list(request.texts)))
        self.metadata = {str(key): str(value) for key, value in context.invocation_metadata()}
        counts = [len(text.split()) for text in request.texts]
        return CountResponse(counts=counts[:-1] if self.lies else counts, tokens_per_message=2, tokens_per_prompt=3)

    def Embed(self, request: object, context: object) -> inference_service_pb2.EmbedResponse:
        raise AssertionError("context embeds nothing")

    def Generate(self, request_iterator: object, context: object) -> Iterator[inference_service_pb2.GenerateResponse]:
        raise AssertionError("context generates nothing")

    def WatchStatus(self, request: object, context: object) -> Iterator[inference_service_pb2.WatchStatusResponse]:
        raise AssertionError("context watches nobody")


@pytest.fixture
def tokenizer() -> Iterator[FakeTokenizer]:
    fake = FakeTokenizer()
    yield fake
    fake.stop()


@dataclass(frozen=True)
class ContextProcess:
    """Where the process listens."""

    address: str
    metrics_address: str


@pytest.fixture(scope="module")
def context_process() -> Iterator[ContextProcess]:
    """`python -m services.context`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "services.context"],
        cwd=ROOT,
        env={**os.environ, "CHATMESH_COUNT_TIMEOUT_S": "2"},
        stderr=subprocess.PIPE,
        text=True,
    )
    bound: list[dict[str, str]] = []
    read: list[str] = []

    def follow() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            read.append(line)
            if line.startswith("{") and json.loads(line)["message"] == "listening":
                bound.append(json.loads(line))

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    deadline = time.monotonic() + DEADLINE_S
    while not bound:
        assert process.poll() is None, "".join(read)
        assert time.monotonic() < deadline, "".join(read)
        time.sleep(0.02)
    yield ContextProcess(address=bound[0]["address"], metrics_address=bound[0]["metrics_address"])
    process.terminate()
    try:
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        reader.join(DEADLINE_S)
        assert process.stderr is not None
        process.stderr.close()
    assert not [line for line in read if '"level": "error"' in line]


@pytest.fixture
def channel(context_process: ContextProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(context_process.address) as opened:
        yield opened


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object], str], None]:
    def wait(condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"not in {DEADLINE_S:g} s: {what}"
            time.sleep(0.02)

    return wait
