"""Processes of the Inference service, and peers that talk to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.rpc.inference.peer import TestPeer
from tests.rpc.inference.process import InferenceProcess

Starter = Callable[..., InferenceProcess]


@pytest.fixture
def start_inference(tmp_path: Path) -> Iterator[Starter]:
    """Start a process; it is gone after the test."""
    started: list[InferenceProcess] = []

    def start(models: list[dict[str, Any]], **environment: str) -> InferenceProcess:
        started.append(InferenceProcess(tmp_path, models, **environment))
        return started[-1]

    yield start
    for process in started:
        process.stop()


Connect = Callable[[InferenceProcess], TestPeer]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Open a stream to a process."""
    peers: list[tuple[TestPeer, grpc.aio.Channel]] = []

    def open_peer(process: InferenceProcess) -> TestPeer:
        channel = grpc.aio.insecure_channel(process.address(), options=[("grpc.use_local_subchannel_pool", 1)])
        peers.append((TestPeer(channel), channel))
        return peers[-1][0]

    yield open_peer
    for peer, channel in peers:
        await peer.close()
        await channel.close()
