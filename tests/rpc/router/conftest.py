"""The Router as a process of its own, and inference replicas of which a test holds the strings."""

from __future__ import annotations

import json
import os
import queue
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

from chatmesh.inference.v1 import inference_service_pb2, status_pb2
from chatmesh.inference.v1.inference_service_pb2_grpc import (
    InferenceServiceServicer,
    add_InferenceServiceServicer_to_server,
)

ROOT = Path(__file__).parents[3]
DEADLINE_S = 20.0

Watched = inference_service_pb2.WatchStatusResponse


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds; fail naming `what` when it does not in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in {DEADLINE_S:g} s: {what}"
        time.sleep(0.02)


@dataclass
class FakeReplica(InferenceServiceServicer):
    """An inference replica that reports what the test says, when the test says it."""

    replica_id: str
    models: dict[str, int] = field(default_factory=lambda: {"small": 4})
    """Slots by model."""
    pool: str = ""
    zone: str = ""
    region: str = ""
    capabilities: dict[str, list[status_pb2.Capability]] = field(default_factory=dict)
    """What it says that each of its models can do; nothing of those that are not there."""
    vectors: dict[str, list[float]] = field(default_factory=dict)
    """What `Embed` answers: the vector of the first of these words that is in the text."""
    embed_delay_s: float = 0.0
    embeds: bool = True
    beat_s: float = 0.2
    silent: bool = False
    port: int = 0

    def __post_init__(self) -> None:
        self._streams: list[queue.Queue[Watched | None]] = []
        self.embedded: list[str] = []
        self._last = self._status()
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def watchers(self) -> int:
        return len(self._streams)

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        add_InferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        for stream in list(self._streams):
            stream.put(None)
        self._server.stop(0).wait()

    def report(self, *, draining: bool = False, running: int = 0, first_token_ms: float = 0.0) -> None:
        self._last = self._status(draining=draining, running=running, first_token_ms=first_token_ms)
        for stream in list(self._streams):
            stream.put(self._last)

    def _status(self, *, draining: bool = False, running: int = 0, first_token_ms: float = 0.0) -> Watched:
        return Watched(
            status=status_pb2.ReplicaStatus(
                replica_id=self.replica_id,
                draining=draining,
                pool=self.pool,
                zone=self.zone,
                region=self.region,
                models=[
                    status_pb2.LoadedModel(
                        name=name,
                        slots=slots,
                        running=running,
                        time_to_first_token_ms=first_token_ms,
                        capabilities=self.capabilities.get(name, []),
                    )
                    for name, slots in self.models.items()
                ],
            )
        )

    def WatchStatus(
        self, request: inference_service_pb2.WatchStatusRequest, context: grpc.ServicerContext
    ) -> Iterator[Watched]:
        stream: queue.Queue[Watched | None] = queue.Queue()
        self._streams.append(stream)
        context.add_callback(lambda: stream.put(None))
        try:
            yield self._last
            while True:
                try:
                    said = stream.get(timeout=self.beat_s)
                except queue.Empty:
                    said = None if self.silent else self._last
                    if said is None:
                        continue
                if said is None:
                    return
                yield said
        finally:
            self._streams.remove(stream)

    def Embed(
        self, request: inference_service_pb2.EmbedRequest, context: grpc.ServicerContext
    ) -> inference_service_pb2.EmbedResponse:
        self.embedded.extend(request.texts)
        time.sleep(self.embed_delay_s)
        if not self.embeds:
            context.abort(grpc.StatusCode.UNAVAILABLE, "no embeddings today")
        return inference_service_pb2.EmbedResponse(
            embeddings=[inference_service_pb2.Embedding(values=self._vector(text)) for text in request.texts]
        )

    def _vector(self, text: str) -> list[float]:
        return next(vector for word, vector in self.vectors.items() if word in text)

    def Generate(self, request_iterator: object, context: object) -> Iterator[inference_service_pb2.GenerateResponse]:
        raise AssertionError("tokens do not pass through the router")

    def CountTokens(self, request: object, context: object) -> inference_service_pb2.CountTokensResponse:
        raise AssertionError("the router counts no tokens")


class RouterProcess:
    """`python -m services.router`."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        self.lines: list[dict[str, object]] = []
        self.text: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.router", *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def logged(self, message: str) -> list[dict[str, object]]:
        return [line for line in list(self.lines) if line.get("message") == message]

    def listening(self, key: str = "address") -> str:
        eventually(lambda: self.logged("listening") or self._process.poll() is not None, "the router listens")
        assert self._process.poll() is None, "".join(self.text)
        return str(self.logged("listening")[0][key])

    def wait(self) -> int:
        code = self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code

    def stop(self) -> int:
        self._process.terminate()
        try:
            return self.wait()
        finally:
            self._process.kill()
            assert self._process.stderr is not None
            self._process.stderr.close()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.text.append(line)
            try:
                self.lines.append(json.loads(line))
            except json.JSONDecodeError:
                continue


MODELS = """
models:
  - {name: small, engine: synthetic, context_length: 2048, max_output_tokens: 1024, default_system_prompt: Be brief.}
  - {name: large, engine: synthetic, context_length: 8192, max_output_tokens: 4096, tiers: [pro]}
aliases:
  auto: [large, small]
"""

StartReplica = Callable[..., FakeReplica]
StartRouter = Callable[..., RouterProcess]


@pytest.fixture
def models_file(tmp_path: Path) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(MODELS)
    return path


@pytest.fixture
def start_replica() -> Iterator[StartReplica]:
    replicas: list[FakeReplica] = []

    def start(replica_id: str, **changes: object) -> FakeReplica:
        replicas.append(FakeReplica(replica_id, **changes))  # type: ignore[arg-type]
        return replicas[-1]

    yield start
    for replica in replicas:
        replica.stop()


@pytest.fixture
def start_router(models_file: Path) -> Iterator[StartRouter]:
    processes: list[RouterProcess] = []

    def start(*replicas: FakeReplica, arguments: tuple[str, ...] = (), **settings: object) -> RouterProcess:
        environment = {
            "CHATMESH_MODELS_FILE": str(models_file),
            "CHATMESH_MODELS_POLL_S": "0.1",
            "CHATMESH_INFERENCE_ADDRESSES": ",".join(replica.address for replica in replicas),
            **{f"CHATMESH_{name.upper()}": str(value) for name, value in settings.items()},
        }
        processes.append(RouterProcess(environment, *arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.stop()


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object], str], None]:
    return eventually
