"""The classifier at the service of many: texts wait together and are scored in batches, beside the event loop."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from services.moderation.classifier import Scores
from services.moderation.metrics import ModerationMetrics
from services.moderation.model import Direction

_log = logging.getLogger(__name__)

_CACHED = 4096
"""Texts whose scores are kept: system prompts, and what clients send again with every turn."""


class TextClassifier(Protocol):
    """What scores texts. `classify` takes long, and leaves the event loop alone when it is called in a thread."""

    @property
    def version(self) -> str:
        """The model's name."""
        ...

    def classify(self, texts: Sequence[str], direction: Direction, *, quick: bool = False) -> list[Scores]:
        """Scores of each text; `quick`: with less effort for what is probably harmless."""
        ...


_Kind = tuple[Direction, bool]
"""Direction, and whether it is quick: what a batch has in common."""


@dataclass(slots=True)
class _Waiting:
    text: str
    kind: _Kind
    answer: asyncio.Future[Scores | None]


class Scoring:
    """Scores texts. Run `run` as a task.

    Args:
        classifier: The classifier.
        threads: Batches that run side by side.
        batch: Texts of a batch.
        longest_queue: Texts that may wait; more are not scored.
        metrics: Told of each batch.
    """

    def __init__(
        self,
        *,
        classifier: TextClassifier,
        metrics: ModerationMetrics,
        threads: int = 1,
        batch: int = 8,
        longest_queue: int = 1024,
    ) -> None:
        self.version = classifier.version
        self._classifier = classifier
        self._metrics = metrics
        self._threads = threads
        self._batch = batch
        self._longest_queue = longest_queue
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._cache: OrderedDict[tuple[_Kind, bytes], Scores] = OrderedDict()

    async def score(self, text: str, direction: Direction, *, timeout_s: float, quick: bool = False) -> Scores | None:
        """The scores of a text; None when they do not come in time, and at once when too many wait."""
        kind = (direction, quick)
        key = (kind, hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest())
        known = self._cache.get(key)
        if known is not None:
            self._cache.move_to_end(key)
            return known
        if len(self._waiting) >= self._longest_queue:
            return None
        waiting = _Waiting(text, kind, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wake.set()
        try:
            async with asyncio.timeout(timeout_s):
                scores = await waiting.answer
        except TimeoutError:
            return None
        if scores is None:
            return None
        self._cache[key] = scores
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return scores

    async def run(self) -> None:
        """Score for ever what waits."""
        with ThreadPoolExecutor(self._threads, thread_name_prefix="classifier") as pool:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._threads):
                    group.create_task(self._work(pool), name="classifier")

    async def _work(self, pool: ThreadPoolExecutor) -> None:
        while True:
            batch = self._next_batch()
            if batch:
                await self._classify(pool, batch)
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _classify(self, pool: ThreadPoolExecutor, batch: Sequence[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        direction, quick = batch[0].kind
        classify = partial(self._classifier.classify, [waiting.text for waiting in batch], direction, quick=quick)
        scores: Sequence[Scores | None]
        try:
            found = await loop.run_in_executor(pool, classify)
        except Exception as error:  # noqa: BLE001 - whatever it was, the service goes on
            if len(batch) > 1:
                # One of them cannot be read; it must not take the others with it.
                for waiting in batch:
                    await self._classify(pool, [waiting])
                return
            # Not with its message, which may hold the text.
            _log.error("a text cannot be classified", extra={"error": type(error).__name__})
            scores = [None]
        else:
            self._metrics.classified(direction, found, seconds=loop.time() - began)
            scores = found
        for waiting, said in zip(batch, scores, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(said)

    def _next_batch(self) -> list[_Waiting]:
        """What has waited longest, of one kind; what nobody waits for any more is dropped."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._batch:
            if self._waiting[0].answer.done():
                self._waiting.popleft()
            elif batch and self._waiting[0].kind != batch[0].kind:
                break
            else:
                batch.append(self._waiting.popleft())
        return batch
