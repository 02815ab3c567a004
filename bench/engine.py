"""What the mesh adds to a real model: the same engine and prompts through the edge and called directly."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import uvloop

from bench.http1 import Connection
from services.cli.mesh import DEFAULT_MODELS_FILE
from services.inference.engines.llama_cpp import LlamaCppEngine
from services.inference.model import Delta, GenerationRequest, Message, Role, Sampling
from services.runtime.model_registry import ModelEntry, ModelRegistry
from tests.mesh_process import MeshProcess, running_mesh

_HOST = "127.0.0.1"
_WAYS = ("edge", "direct")


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer. The rate is that of the tokens after the first."""

    first_token_s: float
    tokens_per_s: float

    @classmethod
    def of(cls, *, asked: float, first: float, last: float, tokens: int) -> Timed:
        """From the times of one answer."""
        return cls(first - asked, (tokens - 1) / (last - first) if last > first else 0.0)


def add_arguments(parser: ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: Namespace) -> int:
    """Measure and print."""
    entry = next(model for model in ModelRegistry.load(DEFAULT_MODELS_FILE).models if model.engine == "llama_cpp")
    with running_mesh(models=DEFAULT_MODELS_FILE) as mesh:
        timed = uvloop.run(_measure(mesh, entry, rounds=arguments.rounds, tokens=arguments.tokens))
    figures = {way: _figures(timed[way]) for way in _WAYS}
    figures["added_ms"] = {
        "first_token": round(figures["edge"]["first_token_ms"] - figures["direct"]["first_token_ms"], 1)
    }
    figures["share"] = {"tokens_per_s": round(figures["edge"]["tokens_per_s"] / figures["direct"]["tokens_per_s"], 3)}
    if arguments.json:
        print(json.dumps(figures))
    else:
        for way in _WAYS:
            values = figures[way]
            print(f"{way:7} first token {values['first_token_ms']} ms, {values['tokens_per_s']} tokens/s")
        print(
            f"the mesh adds {figures['added_ms']['first_token']} ms to the first token and has"
            f" {figures['share']['tokens_per_s']:.1%} of the engine's tokens/s"
            f" (medians of {arguments.rounds} interleaved rounds)"
        )
    return 0


async def _measure(mesh: MeshProcess, entry: ModelEntry, *, rounds: int, tokens: int) -> dict[str, list[Timed]]:
    engine = LlamaCppEngine(entry)
    await engine.start()
    connection = await Connection.open(_HOST, mesh.port, token=mesh.token(user="bench"))
    timed: dict[str, list[Timed]] = {way: [] for way in _WAYS}
    try:
        for number in range(rounds + 1):
            question = f"Write a long story about {number + 2} birds and a river."
            # Alternately first, so that neither always finds the caches of the processor warm.
            for way in _WAYS if number % 2 else reversed(_WAYS):
                if way == "edge":
                    result = await _through_edge(connection, entry, question, tokens=tokens)
                else:
                    result = await _directly(engine, entry, question, key=number, tokens=tokens)
                # The first round warms both up.
                if number:
                    timed[way].append(result)
    finally:
        connection.close()
        await engine.close()
    return timed


async def _through_edge(connection: Connection, entry: ModelEntry, question: str, *, tokens: int) -> Timed:
    arrivals: list[float] = []
    body = {
        "model": entry.name,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": tokens,
        "temperature": 0,
        "messages": [{"role": "user", "content": question}],
    }
    parts: list[bytes] = []

    def on_body(data: bytes, now: float) -> None:
        parts.append(data)
        if b'"finish_reason": null' in data:
            arrivals.append(now)

    asked = time.perf_counter()
    status = await connection.post("/v1/chat/completions", json.dumps(body).encode(), on_body)
    if status != 200 or not arrivals:
        raise RuntimeError(f"status {status}: {b''.join(parts)[:300]!r}")
    events = [json.loads(event[6:]) for event in b"".join(parts).split(b"\n\n") if event.startswith(b"data: {")]
    counted = int(events[-1]["usage"]["completion_tokens"])
    return Timed.of(asked=asked, first=arrivals[0], last=arrivals[-1], tokens=counted)


async def _directly(engine: LlamaCppEngine, entry: ModelEntry, question: str, *, key: int, tokens: int) -> Timed:
    deltas: list[tuple[float, Delta]] = []
    ended = asyncio.Event()

    def sink(delta: Delta) -> None:
        deltas.append((time.perf_counter(), delta))
        if delta.end is not None:
            ended.set()

    asked = time.perf_counter()
    engine.submit(
        GenerationRequest(
            key=key,
            generation_id=f"bench-{key}",
            model=entry.name,
            messages=(Message(Role.SYSTEM, entry.default_system_prompt), Message(Role.USER, question)),
            sampling=Sampling(temperature=0, max_tokens=tokens),
        ),
        sink,
    )
    await ended.wait()
    end = deltas[-1][1].end
    if end is None or end.error is not None:
        raise RuntimeError("the engine failed")
    texts = [at for at, delta in deltas if delta.text]
    return Timed.of(asked=asked, first=texts[0], last=texts[-1], tokens=end.usage.completion_tokens)


def _figures(timed: Sequence[Timed]) -> dict[str, Any]:
    return {
        "first_token_ms": round(statistics.median(t.first_token_s for t in timed) * 1000, 1),
        "tokens_per_s": round(statistics.median(t.tokens_per_s for t in timed), 1),
    }
