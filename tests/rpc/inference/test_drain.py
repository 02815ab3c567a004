"""What becomes of work when a replica goes: what waits goes elsewhere at once, what runs gets the grace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from chatmesh.inference.v1 import inference_service_pb2
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import Reason
from tests.rpc.inference.peer import TestPeer, error_of
from tests.rpc.inference.process import InferenceProcess, synthetic

Connect = Callable[[InferenceProcess], TestPeer]
Start = Callable[..., InferenceProcess]


async def test_what_waits_ends_at_once_and_what_outlives_the_grace_is_cancelled(
    start_inference: Start, connect: Connect
) -> None:
    endless = synthetic("synthetic", slots=2, tokens_per_second=200, answer_tokens=1_000_000)
    process = start_inference([endless], CHATMESH_DRAIN_GRACE_S="1")
    process.wait_until_serving()
    peer = connect(process)
    watch = peer.stub.WatchStatus(inference_service_pb2.WatchStatusRequest())
    running = [(await peer.start())[1] for _ in range(2)]
    for answer in running:
        await answer.until(lambda answer: answer.tokens >= 1)
    waiting = [(await peer.start())[1] for _ in range(3)]
    while (await peer.model("synthetic")).queued < 3:
        pass
    process.terminate()
    for answer in waiting:
        assert error_of(await answer.finished()).reason is Reason.DRAINING
    assert not any(answer.ended for answer in running), "the grace is for what runs"
    said: Any = await watch.read()
    while not said.status.draining:
        said = await watch.read()
    assert (said.status.models[0].running, said.status.models[0].queued) == (2, 0)
    for answer in running:
        await answer.finished()
        assert answer.end.finish_reason == chat_pb2.FINISH_REASON_CANCELLED
        assert answer.tokens == answer.end.usage.completion_tokens > 1
    assert await peer.ended() is grpc.StatusCode.OK
    assert await asyncio.to_thread(process.wait) == 0
    assert "drain grace is over" in process.output


async def test_the_status_says_where_it_stands_and_what_it_can_do(start_inference: Start, connect: Connect) -> None:
    process = start_inference(
        [synthetic("a"), synthetic("b") | {"capabilities": ["chat"]}],
        CHATMESH_POOL="small",
        CHATMESH_ZONE="eu-west-1a",
        CHATMESH_REGION="eu-west-1",
    )
    process.wait_until_serving()
    peer = connect(process)
    status = await peer.status()
    assert (status.pool, status.zone, status.region) == ("small", "eu-west-1a", "eu-west-1")
    able, limited = status.models
    assert "CAPABILITY_CHAT" in names(able)
    assert names(limited) == {"CAPABILITY_CHAT"}
    assert names(able) > names(limited)


def names(model: Any) -> set[str]:
    from chatmesh.inference.v1 import status_pb2

    return {status_pb2.Capability.Name(capability) for capability in model.capabilities}


async def test_completed_and_failed_are_counted(start_inference: Start, connect: Connect) -> None:
    process = start_inference([synthetic("synthetic", tokens_per_second=0, fail_after_tokens=3, fail_times=2)])
    process.wait_until_serving()
    peer = connect(process)
    # The warm-up asks for two tokens and fails at none.
    reasons = [error_of(await peer.ask()).reason for _ in range(2)]
    assert reasons == [Reason.ENGINE_FAILED] * 2
    await peer.ask()
    assert error_of(await peer.ask("word " * 3000)).reason is Reason.CONTEXT_LENGTH_EXCEEDED
    state = await peer.model("synthetic")
    assert (state.completed, state.failed) == (1, 2)
