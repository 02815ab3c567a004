"""Who is served first, who makes way, and who has waited too long, in the real process."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable

import pytest

from chatmesh.inference.v1.generation_pb2 import (
    PRIORITY_BACKGROUND,
    PRIORITY_HIGH,
    PRIORITY_LOW,
    PRIORITY_NORMAL,
    Priority,
)
from chatmesh.type.v1 import chat_pb2
from services.runtime.errors import Reason
from tests.rpc.inference.peer import Answer, TestPeer, error_of, eventually
from tests.rpc.inference.process import InferenceProcess, synthetic

Connect = Callable[[InferenceProcess], TestPeer]
Start = Callable[..., InferenceProcess]

MODEL = synthetic("synthetic", slots=1, tokens_per_second=500, answer_tokens=1_000_000)
PATIENT = {"CHATMESH_INFERENCE_QUEUE_TIMEOUT_S": "600"}


async def busy(peer: TestPeer) -> str:
    """Take the one slot; the id of what has it."""
    generation_id, answer = await peer.start()
    await answer.until(lambda answer: answer.tokens >= 1)
    return generation_id


async def wait_for_queue(peer: TestPeer, length: int) -> None:
    async def reached() -> bool:
        return bool((await peer.model("synthetic")).queued == length)

    await eventually(reached, f"{length} wait")


@pytest.mark.parametrize(
    ("free", "paid", "place"),
    [(PRIORITY_LOW, PRIORITY_HIGH, 0), (PRIORITY_NORMAL, PRIORITY_NORMAL, 20)],
    ids=["with priority", "without"],
)
async def test_the_urgent_overtake_a_queue(
    start_inference: Start, connect: Connect, free: Priority, paid: Priority, place: int
) -> None:
    process = start_inference([MODEL], **PATIENT)
    process.wait_until_serving()
    peer = connect(process)
    holder = await busy(peer)
    waiting = [await peer.start(priority=free, max_tokens=2) for _ in range(20)]
    _, last = await peer.start(generation_id="paid", priority=paid, max_tokens=2)
    await wait_for_queue(peer, 21)
    await peer.send(cancels=[holder])
    for _, answer in waiting:
        await answer.finished()
    await last.finished()
    order = [generation_id for generation_id in peer.begun if generation_id != holder]
    assert order.index("paid") == place
    order.remove("paid")
    assert order == [generation_id for generation_id, _ in waiting], "among themselves in the order of arrival"


@pytest.mark.parametrize("oldest_every", [5, 0], ids=["with aging", "without"])
async def test_the_others_progress_under_a_steady_stream_of_the_urgent(
    start_inference: Start, connect: Connect, oldest_every: int
) -> None:
    process = start_inference(
        [MODEL],
        CHATMESH_INFERENCE_QUEUE_LIMIT="200",
        CHATMESH_INFERENCE_OLDEST_EVERY=str(oldest_every),
        **PATIENT,
    )
    process.wait_until_serving()
    peer = connect(process)
    holder = await busy(peer)
    free = [peer.build("Hello", priority=PRIORITY_LOW, max_tokens=2) for _ in range(10)]
    answers = [peer.answer(start.generation_id) for start in free]
    urgent = [peer.build("Hello", priority=PRIORITY_HIGH, max_tokens=2) for _ in range(60)]
    waiting = [peer.answer(start.generation_id) for start in urgent]
    await peer.send(starts=[*free, *urgent], cancels=[holder])
    # As many urgent ones wait at any time: each that is served is followed by another.
    for _ in range(100):
        await waiting.pop(0).finished()
        waiting.append((await peer.start(priority=PRIORITY_HIGH, max_tokens=2))[1])
    if oldest_every:
        assert all(answer.tokens == 2 for answer in answers)
        places = [peer.begun.index(start.generation_id) for start in free]
        assert places == [5 * number for number in range(1, 11)], "each fifth slot was theirs"
    else:
        assert not any(answer.deltas for answer in answers), "without it they wait for ever"


async def test_the_last_in_a_full_queue_makes_way(start_inference: Start, connect: Connect) -> None:
    process = start_inference([MODEL], CHATMESH_INFERENCE_QUEUE_LIMIT="2", **PATIENT)
    process.wait_until_serving()
    peer = connect(process)
    holder = await busy(peer)
    _, first = await peer.start(priority=PRIORITY_LOW, max_tokens=2)
    _, second = await peer.start(priority=PRIORITY_LOW, max_tokens=2)
    _, urgent = await peer.start(priority=PRIORITY_HIGH, max_tokens=2)
    await second.finished()
    _, late = await peer.start(priority=PRIORITY_LOW)
    await late.finished()
    for answer in (second, late):
        error = error_of(answer)
        assert (error.reason, error.metadata) == (Reason.OVERLOADED, {"model": "synthetic"})
        assert error.retry_after_s is not None
        assert error.retry_after_s >= 1
        assert answer.tokens == 0
    assert not urgent.deltas
    assert not first.deltas
    await peer.send(cancels=[holder])
    for answer in (urgent, first):
        assert (await answer.finished()).end.finish_reason == chat_pb2.FINISH_REASON_LENGTH
    state = await peer.model("synthetic")
    assert (state.running, state.queued) == (0, 0)


@pytest.mark.parametrize("whose", ["the request's", "the replica's"])
async def test_who_has_waited_too_long_is_told(start_inference: Start, connect: Connect, whose: str) -> None:
    own = whose == "the request's"
    process = start_inference([MODEL], CHATMESH_INFERENCE_QUEUE_TIMEOUT_S="600" if own else "0.1")
    process.wait_until_serving()
    peer = connect(process)
    await busy(peer)
    _, patient = await peer.start(queue_timeout_ms=600_000)
    answer = await peer.ask(queue_timeout_ms=100 if own else 0)
    error = error_of(answer)
    assert error.reason is Reason.OVERLOADED
    assert error.retry_after_s is not None
    assert answer.end.queue_ms >= 100
    assert not patient.deltas
    state = await peer.model("synthetic")
    assert (state.running, state.queued) == (1, 1)


async def test_who_would_wait_too_long_is_told_at_once(start_inference: Start, connect: Connect) -> None:
    process = start_inference([MODEL], **PATIENT)
    process.wait_until_serving()
    peer = connect(process)
    for _ in range(10):
        await peer.ask(max_tokens=100)
    await busy(peer)
    for _ in range(30):
        await peer.start()
    refused = await peer.ask(queue_timeout_ms=1000)
    assert error_of(refused).reason is Reason.OVERLOADED
    assert refused.end.queue_ms == 0, "it did not wait"
    # One that can wait is let in, and so is one that stands further to the front.
    await peer.start(queue_timeout_ms=600_000)
    await peer.start(priority=PRIORITY_HIGH, queue_timeout_ms=60_000)
    await wait_for_queue(peer, 32)


async def test_status_and_metrics_say_who_waits(start_inference: Start, connect: Connect) -> None:
    process = start_inference([MODEL], **PATIENT)
    process.wait_until_serving()
    peer = connect(process)
    holder = await busy(peer)
    _, urgent = await peer.start(priority=PRIORITY_HIGH, max_tokens=2)
    for _ in range(3):
        await peer.start(priority=PRIORITY_BACKGROUND)
    await wait_for_queue(peer, 4)
    state = await peer.model("synthetic")
    assert [(w.priority, w.queued) for w in state.waiting] == [
        (PRIORITY_HIGH, 1),
        (PRIORITY_NORMAL, 0),
        (PRIORITY_BACKGROUND, 3),
    ]

    def scrape() -> list[str]:
        with urllib.request.urlopen(f"http://{process.metrics_address()}/metrics") as response:
            return str(response.read().decode()).splitlines()

    def value(lines: list[str], name: str, priority: str) -> float:
        (line,) = [line for line in lines if line.startswith(name + "{") and f'chatmesh_priority="{priority}"' in line]
        return float(line.split()[-1])

    lines = await asyncio.to_thread(scrape)
    queued = "chatmesh_inference_queued"
    assert [value(lines, queued, name) for name in ("high", "normal", "low", "background")] == [1, 0, 0, 3]
    await peer.send(cancels=[holder])
    answered: Answer = await urgent.finished()
    waits = next(w for w in (await peer.model("synthetic")).waiting if w.priority == PRIORITY_HIGH)
    assert waits.wait_ms == pytest.approx(answered.end.queue_ms, rel=1e-6)
    assert answered.end.first_token_ms > answered.end.queue_ms > 0
    lines = await asyncio.to_thread(scrape)
    assert value(lines, "chatmesh_inference_queue_duration_seconds_count", "high") == 1
