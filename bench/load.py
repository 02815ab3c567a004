"""Drives a workload through the edge and measures it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.answers import Answer, Expected, WrongAnswerError
from bench.http1 import Connection, HttpError
from bench.processes import MeshProcesses, Spent
from bench.workloads import Surface, Workload

_QUESTION = "Tell me what you are, at length."
_HOST = "127.0.0.1"
_SETUP_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Measured:
    """One round of a workload. Times in seconds."""

    tokens: int
    answers: int
    """Tokens and answers that were delivered while it was measured."""
    window_s: float
    spent: Spent
    to_first_token: Sequence[float]
    lags: Sequence[float]
    """How much later each token came than the steady pace of its stream, which its best token shows."""
    errors: Mapping[str, int]
    memory_before_kb: Mapping[str, int]
    memory_kb: Mapping[str, int]
    """Before the streams were open, and while they were."""


@dataclass(slots=True)
class _Run:
    """What a round gathers."""

    answers: list[Answer] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    stop_at: float = float("inf")


class Load:
    """A client of one surface."""

    def __init__(
        self, *, port: int, surface: Surface, token_of: Callable[[int], str], processes: MeshProcesses
    ) -> None:
        self._port = port
        self._surface = surface
        self._token_of = token_of
        self._processes = processes
        self._expected: dict[tuple[str, int], Expected] = {}

    async def measure(self, workload: Workload) -> Measured:
        """Run a workload once."""
        expected = await self._expect(workload)
        connections = [
            await Connection.open(_HOST, self._port, token=self._token_of(index)) for index in range(workload.streams)
        ]
        try:
            paths = await self._conversations(workload, connections)
            return await self._run(workload, connections, paths, expected)
        finally:
            for connection in connections:
                connection.close()

    async def _run(
        self,
        workload: Workload,
        connections: Sequence[Connection],
        paths: Sequence[Sequence[str]],
        expected: Expected,
    ) -> Measured:
        run = _Run()
        memory_before = self._processes.memory_kb()
        begun, cpu = time.perf_counter(), self._processes.cpu_s()
        if workload.interval_s:
            run.stop_at = begun + workload.ramp_s + workload.window_s
        streams = [
            asyncio.create_task(self._stream(workload, connection, own, expected, run, delay_s=delay_s))
            for connection, own, delay_s in zip(connections, paths, _delays(workload), strict=True)
        ]
        if workload.interval_s:
            await asyncio.sleep(workload.ramp_s)
            start, before = time.perf_counter(), self._processes.cpu_s()
            await asyncio.sleep(workload.window_s)
            end, after = time.perf_counter(), self._processes.cpu_s()
            memory = self._processes.memory_kb()
            await asyncio.gather(*streams)
        else:
            await asyncio.gather(*streams)
            start, before = begun, cpu
            end, after = time.perf_counter(), self._processes.cpu_s()
            memory = self._processes.memory_kb()
        return Measured(
            tokens=sum(start <= at <= end for answer in run.answers for at in answer.arrivals),
            answers=sum(start <= answer.arrivals[-1] <= end for answer in run.answers if answer.arrivals),
            window_s=end - start,
            spent=Spent.between(before, after),
            to_first_token=[answer.arrivals[0] - answer.sent_at for answer in run.answers if answer.arrivals],
            lags=[lag for answer in run.answers for lag in _lags(answer, workload.interval_s, start=start, end=end)]
            if workload.interval_s
            else [],
            errors=run.errors,
            memory_before_kb=memory_before,
            memory_kb=memory,
        )

    async def _stream(
        self,
        workload: Workload,
        connection: Connection,
        paths: Sequence[str],
        expected: Expected,
        run: _Run,
        *,
        delay_s: float,
    ) -> None:
        await asyncio.sleep(delay_s)
        for path in paths:
            if time.perf_counter() >= run.stop_at:
                return
            answer = Answer(expected, surface=self._surface, sent_at=time.perf_counter())
            try:
                await self._ask(workload, connection, path, answer)
            except HttpError as error:
                run.errors[str(error)] += 1
                return
            except WrongAnswerError as error:
                run.errors[str(error)] += 1
            run.answers.append(answer)

    async def _ask(self, workload: Workload, connection: Connection, path: str, answer: Answer) -> None:
        body = json.dumps(_question(workload, self._surface)).encode()
        parts: list[bytes] = []
        wrong: list[WrongAnswerError] = []

        def on_events(data: bytes, now: float) -> None:
            if connection.status != 200:
                parts.append(data)
                return
            try:
                if not wrong:
                    answer.on_events(data, now)
            except (WrongAnswerError, ValueError, KeyError) as error:
                wrong.append(WrongAnswerError(f"{type(error).__name__}: {error}"))

        status = await connection.post(
            path, body, on_events if workload.streaming else lambda data, _: parts.append(data)
        )
        if status != 200:
            raise WrongAnswerError(f"status {status}: {b''.join(parts)[:200]!r}")
        if wrong:
            raise wrong[0]
        if not workload.streaming:
            answer.on_whole(b"".join(parts), time.perf_counter())
        answer.finish()

    async def _expect(self, workload: Workload) -> Expected:
        """The text that the engine writes: a function of the question, so it is asked for once."""
        key = (workload.model, workload.tokens)
        if key not in self._expected:
            connection = await Connection.open(_HOST, self._port, token=self._token_of(0))
            status, answer = await connection.post_json(
                "/v1/chat/completions", {**_question(workload, Surface.OPENAI), "stream": False}
            )
            connection.close()
            if status != 200:
                raise WrongAnswerError(f"status {status}: {answer}")
            self._expected[key] = Expected.of(answer["choices"][0]["message"]["content"], tokens=workload.tokens)
        return self._expected[key]

    async def _conversations(self, workload: Workload, connections: Sequence[Connection]) -> list[list[str]]:
        """Where each stream asks, one after the other. Conversations are made before anything is measured."""
        count = workload.answers_per_stream
        if self._surface is Surface.OPENAI:
            return [["/v1/chat/completions"] * count for _ in connections]
        gate = asyncio.Semaphore(_SETUP_AT_ONCE)
        verb = "messages:stream" if workload.streaming else "messages"

        async def make(connection: Connection) -> list[str]:
            paths = []
            for _ in range(count):
                async with gate:
                    # With a title, for writing one would be a second generation.
                    named = {"model": workload.model, "title": "bench"}
                    status, made = await connection.post_json("/v1/conversations", named)
                if status != 200:
                    raise WrongAnswerError(f"status {status}: {made}")
                paths.append(f"/v1/conversations/{made['id']}/{verb}")
            return paths

        return await asyncio.gather(*map(make, connections))


def _question(workload: Workload, surface: Surface) -> dict[str, Any]:
    if surface is Surface.NATIVE:
        return {"content": _QUESTION, "sampling": {"max_tokens": workload.tokens}}
    return {
        "model": workload.model,
        "stream": workload.streaming,
        "max_tokens": workload.tokens,
        "messages": [{"role": "user", "content": _QUESTION}],
    }


def _delays(workload: Workload) -> list[float]:
    return [workload.ramp_s * index / workload.streams for index in range(workload.streams)]


def _lags(answer: Answer, interval_s: float, *, start: float, end: float) -> list[float]:
    # The engine's first token comes at once and the others with the steps that all answers share, so it does not count;
    # nor do tokens without text of their own, which cannot be seen to come.
    ends = answer.expected.ends
    behind = [
        (at - index * interval_s, at)
        for index, at in enumerate(answer.arrivals)
        if index and ends[index] > ends[index - 1]
    ]
    best = min(behind, default=(0.0, 0.0))[0]
    return [late - best for late, at in behind if start <= at <= end]
