"""Texts wait together for the classifier, and not for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from services.moderation.classifier import Scores
from services.moderation.metrics import ModerationMetrics
from services.moderation.model import Direction
from services.moderation.scoring import Scoring

METRICS = ModerationMetrics(meter=NoOpMeterProvider().get_meter("test"))


class SlowClassifier:
    """Says of each text its length, when it is let."""

    version = "slow"

    def __init__(self) -> None:
        self.batches: list[tuple[Direction, list[str]]] = []
        self.go = threading.Event()
        self.started = threading.Event()

    def classify(self, texts: Sequence[str], direction: Direction, *, quick: bool = False) -> list[Scores]:
        self.batches.append((direction, list(texts)))
        self.started.set()
        assert self.go.wait(20)
        return [Scores(len(text) / 100, 0.0, {}, "linear") for text in texts]


@asynccontextmanager
async def scoring(classifier: SlowClassifier, *, batch: int = 8, longest_queue: int = 100) -> AsyncIterator[Scoring]:
    made = Scoring(classifier=classifier, metrics=METRICS, batch=batch, longest_queue=longest_queue)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        classifier.go.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask(made: Scoring, text: str, direction: Direction = Direction.INPUT, timeout_s: float = 20) -> float | None:
    scores = await made.score(text, direction, timeout_s=timeout_s)
    return None if scores is None else scores.harm


async def test_what_comes_while_a_batch_runs_is_the_next_one() -> None:
    classifier = SlowClassifier()
    async with scoring(classifier) as made:
        first = asyncio.create_task(ask(made, "a"))
        await asyncio.to_thread(classifier.started.wait, 20)
        rest = [asyncio.create_task(ask(made, "b" * length)) for length in (2, 3, 4)]
        await asyncio.sleep(0)
        classifier.go.set()
        assert await first == 0.01
        assert await asyncio.gather(*rest) == [0.02, 0.03, 0.04]
    assert [texts for _, texts in classifier.batches] == [["a"], ["bb", "bbb", "bbbb"]]


async def test_a_batch_has_one_direction_and_a_bound() -> None:
    classifier = SlowClassifier()
    async with scoring(classifier, batch=2) as made:
        first = asyncio.create_task(ask(made, "a"))
        await asyncio.to_thread(classifier.started.wait, 20)
        ways = [Direction.INPUT, Direction.INPUT, Direction.INPUT, Direction.OUTPUT, Direction.OUTPUT]
        rest = [asyncio.create_task(ask(made, f"b{number}", way)) for number, way in enumerate(ways)]
        await asyncio.sleep(0)
        classifier.go.set()
        await asyncio.gather(first, *rest)
    assert [(way, len(texts)) for way, texts in classifier.batches] == [
        (Direction.INPUT, 1),
        (Direction.INPUT, 2),
        (Direction.INPUT, 1),
        (Direction.OUTPUT, 2),
    ]


async def test_a_text_is_scored_once_in_each_direction() -> None:
    classifier = SlowClassifier()
    classifier.go.set()
    async with scoring(classifier) as made:
        assert [await ask(made, "same") for _ in range(3)] == [0.04] * 3
        await ask(made, "same", Direction.OUTPUT)
    assert [way for way, _ in classifier.batches] == [Direction.INPUT, Direction.OUTPUT]


async def test_who_waits_too_long_goes_without_and_is_not_scored_later() -> None:
    classifier = SlowClassifier()
    async with scoring(classifier, batch=1) as made:
        running = asyncio.create_task(ask(made, "a"))
        await asyncio.to_thread(classifier.started.wait, 20)
        assert await ask(made, "b", timeout_s=0.01) is None
        classifier.go.set()
        assert await running == 0.01
        assert await ask(made, "c") == 0.01
    assert [texts for _, texts in classifier.batches] == [["a"], ["c"]]


async def test_a_full_queue_takes_no_more() -> None:
    classifier = SlowClassifier()
    async with scoring(classifier, batch=1, longest_queue=1) as made:
        running = asyncio.create_task(ask(made, "a"))
        await asyncio.to_thread(classifier.started.wait, 20)
        waiting = asyncio.create_task(ask(made, "b"))
        await asyncio.sleep(0)
        assert await ask(made, "c") is None
        classifier.go.set()
        assert (await running, await waiting) == (0.01, 0.01)


@pytest.mark.parametrize("text", ["", "\ud800", "x" * 100_000])
async def test_any_text_has_a_key(text: str) -> None:
    classifier = SlowClassifier()
    classifier.go.set()
    async with scoring(classifier) as made:
        assert await ask(made, text) == len(text) / 100
