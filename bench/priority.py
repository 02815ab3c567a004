"""What paid and free requests wait for on a replica that is asked for more than it can do."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import uvloop

from bench.figures import brief, percentile, table
from chatmesh.inference.v1 import generation_pb2
from chatmesh.type.v1 import chat_pb2
from tests.rpc.inference.peer import Answer, TestPeer
from tests.rpc.inference.process import InferenceProcess, synthetic

_SLOTS = 8
_TOKENS_PER_S = 100
_LENGTHS = (5, 35)
_MEAN_S = sum(_LENGTHS) / 2 / _TOKENS_PER_S
_SCALE = 20
"""An answer takes a twentieth of what it would on a real model, and so does the longest wait."""
_QUEUE_TIMEOUT_S = 30 / _SCALE
_FILL_S = 3 * _QUEUE_TIMEOUT_S
_CLASSES = ("paid", "free")
_PRIORITIES: Mapping[str, Mapping[str, generation_pb2.Priority]] = {
    "without": {"paid": generation_pb2.PRIORITY_NORMAL, "free": generation_pb2.PRIORITY_NORMAL},
    "with": {"paid": generation_pb2.PRIORITY_HIGH, "free": generation_pb2.PRIORITY_LOW},
}


@dataclass(frozen=True, slots=True)
class _Waits:
    """What became of the requests of one class: the waits of those that were served, and how many were not."""

    served_s: Sequence[float]
    refused: int

    def figures(self) -> dict[str, Any]:
        """In units of the mean answer."""
        return {
            "p50": round(percentile(self.served_s, 0.5) / _MEAN_S, 3),
            "p99": round(percentile(self.served_s, 0.99) / _MEAN_S, 3),
            "served": len(self.served_s),
            "refused": self.refused,
        }


def add_arguments(parser: ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--seconds", type=float, default=30.0, help="of each of the two runs")
    parser.add_argument("--load", type=float, default=1.3, help="what is asked for as a share of what it can do")
    parser.add_argument("--paid", type=float, default=0.2, help="share of the requests that are paid")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: Namespace) -> int:
    """Measure and print."""
    figures = {
        name: {
            kind: waits.figures()
            for kind, waits in uvloop.run(
                _measure(priorities, seconds=arguments.seconds, load=arguments.load, paid=arguments.paid)
            ).items()
        }
        for name, priorities in _PRIORITIES.items()
    }
    if arguments.json:
        print(json.dumps(figures))
        return 0
    rows = [
        [
            f"{name} priority",
            kind,
            brief(values["p50"]),
            brief(values["p99"]),
            f"{values['refused'] / max(1, values['served'] + values['refused']):.0%}",
        ]
        for name, classes in figures.items()
        for kind, values in classes.items()
    ]
    print(table(["", "requests", "wait p50", "wait p99", "turned away"], rows))
    print(
        f"waits in mean answers of {_MEAN_S * 1000:g} ms; {_SLOTS} slots, {arguments.load:g} times what they can do, "
        f"{arguments.paid:.0%} paid"
    )
    before, after = figures["without"]["paid"], figures["with"]["paid"]
    print(
        f"with priority a paid request waits {brief(after['p50'] / before['p50'])} (p50) and "
        f"{brief(after['p99'] / before['p99'])} (p99) of what it waits without"
    )
    return 0


async def _measure(
    priorities: Mapping[str, generation_pb2.Priority], *, seconds: float, load: float, paid: float
) -> dict[str, _Waits]:
    model = synthetic("synthetic", slots=_SLOTS, tokens_per_second=_TOKENS_PER_S, answer_tokens=1500)
    with tempfile.TemporaryDirectory() as folder:
        process = InferenceProcess(
            Path(folder),
            [model],
            CHATMESH_INFERENCE_QUEUE_LIMIT="256",
            CHATMESH_INFERENCE_QUEUE_TIMEOUT_S=str(_QUEUE_TIMEOUT_S),
            CHATMESH_DRAIN_GRACE_S="0",
        )
        try:
            await asyncio.to_thread(process.wait_until_serving)
            async with grpc.aio.insecure_channel(process.address()) as channel:
                peer = TestPeer(channel)
                try:
                    return await _offer(peer, priorities, seconds=seconds, load=load, paid=paid)
                finally:
                    await peer.close()
        finally:
            await asyncio.to_thread(process.stop)


async def _offer(
    peer: TestPeer, priorities: Mapping[str, generation_pb2.Priority], *, seconds: float, load: float, paid: float
) -> dict[str, _Waits]:
    """Requests that come at random times whatever becomes of those before them, the same ones in every run.

    Those that come while the queue fills are not counted, nor those that come after the last one that is.
    """
    chance = random.Random(1)
    rate = load * _SLOTS / _MEAN_S
    answers: dict[str, list[Answer]] = {kind: [] for kind in _CLASSES}
    started = time.monotonic()
    due = 0.0
    while (due := due + chance.expovariate(rate)) < _FILL_S + seconds + _QUEUE_TIMEOUT_S:
        kind = "paid" if chance.random() < paid else "free"
        await asyncio.sleep(started + due - time.monotonic())
        _, answer = await peer.start(priority=priorities[kind], max_tokens=chance.randint(*_LENGTHS))
        if _FILL_S <= due < _FILL_S + seconds:
            answers[kind].append(answer)
    return {kind: await _waits(of) for kind, of in answers.items()}


async def _waits(answers: Sequence[Answer]) -> _Waits:
    served: list[float] = []
    refused = 0
    for answer in answers:
        end = (await answer.finished()).end
        if end.finish_reason == chat_pb2.FINISH_REASON_ERROR:
            refused += 1
        else:
            served.append(end.queue_ms / 1000)
    return _Waits(served, refused)
