"""Takes a share of what was let through to the guard's queue, without keeping any check waiting.

Offers wait in this process until one writer has put them into a Redis stream; when too many wait they are dropped and
counted, for a check that nobody waits for must not become one that somebody does.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from datetime import timedelta

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.moderation.guard.convert import job_to_bytes
from services.moderation.guard.metrics import GuardMetrics
from services.moderation.guard.model import Drop, GuardJob
from services.moderation.model import Direction, Layer, Subject, Verdict
from services.moderation.policy import GuardPolicy, Policy
from services.runtime.clock import Clock
from services.runtime.redis import raise_if_cancelled

_log = logging.getLogger(__name__)

STREAM = "chatmesh:moderation:guard"
FIELD = "v"
MAX_ENTRIES = 10_000
"""About how many entries stay: when the guard is that far behind, the oldest are not looked at."""
MAX_AGE = timedelta(hours=1)
"""How old entries become. They hold texts of users, so that they go also when nobody takes them."""
LONGEST = 100_000
"""Code points of the longest text that is looked at."""
CAPACITY = 1_000
"""Offers that wait in this process, at most."""
CAPACITY_CHARACTERS = 10_000_000
"""Code points of their texts, at most."""
BATCH = 50
QUESTIONS = 2_000
"""Questions that are remembered until they are answered, at most."""
QUESTION_CHARACTERS = 4_000
"""Of the end of a question that is remembered."""
FIRST_RETRY_S = 0.25
LONGEST_RETRY_S = 10.0


class GuardOffers:
    """Takes offers. Run `run` as a task.

    Args:
        redis: Where the stream is.
        clock: The time.
        metrics: Told of what is taken and what is dropped.
        chance: Uniformly distributed numbers of [0, 1).
    """

    def __init__(
        self, *, redis: Redis, clock: Clock, metrics: GuardMetrics, chance: Callable[[], float] = random.random
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._metrics = metrics
        self._chance = chance
        self._waiting: deque[GuardJob] = deque()
        self._characters = 0
        self._wake = asyncio.Event()
        self._questions: OrderedDict[str, str] = OrderedDict()

    def input(self, policy: Policy, verdict: Verdict, *, subject: Subject, text: str) -> None:
        """Offer what a user sent, with the verdict on it."""
        if policy.guard is None or not policy.guard.background or verdict.action.refuses:
            return
        text = verdict.redacted_text if verdict.redacted_text is not None else text
        self._remember(subject.generation_id, text)
        heard = any(result.layer is Layer.GUARD and not result.unchecked for result in verdict.layers)
        if not heard and self._is_chosen(policy.guard):
            self._offer(policy, subject, Direction.INPUT, text)

    def output(self, policy: Policy, *, subject: Subject, text: Callable[[], str]) -> None:
        """Offer an answer that was shown; `text` gives it with all redactions applied."""
        question = self._questions.pop(subject.generation_id, "")
        if policy.guard is not None and self._is_chosen(policy.guard):
            self._offer(policy, subject, Direction.OUTPUT, text(), question)

    async def run(self) -> None:
        """Write for ever what was offered."""
        retry_s = FIRST_RETRY_S
        while True:
            raise_if_cancelled()
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            try:
                while self._waiting:
                    batch = [self._waiting[at] for at in range(min(BATCH, len(self._waiting)))]
                    await self._write(batch)
                    self._written(batch)
            except (RedisError, OSError) as error:
                _log.warning(
                    "texts for the guard wait", extra={"error": type(error).__name__, "texts": len(self._waiting)}
                )
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, LONGEST_RETRY_S)
            else:
                retry_s = FIRST_RETRY_S

    def _is_chosen(self, guard: GuardPolicy) -> bool:
        return self._chance() < guard.background

    def _offer(self, policy: Policy, subject: Subject, direction: Direction, text: str, question: str = "") -> None:
        if not text.strip() or not subject.generation_id:
            return
        if len(text) > LONGEST:
            self._metrics.dropped(Drop.LONG)
            return
        if len(self._waiting) >= CAPACITY or self._characters + len(text) > CAPACITY_CHARACTERS:
            self._metrics.dropped(Drop.FULL)
            return
        self._waiting.append(GuardJob(subject, direction, text, question, policy.version))
        self._characters += len(text)
        self._metrics.offered(direction)
        self._wake.set()

    def _remember(self, generation_id: str, question: str) -> None:
        self._questions[generation_id] = question[-QUESTION_CHARACTERS:]
        if len(self._questions) > QUESTIONS:
            self._questions.popitem(last=False)

    def _written(self, batch: Sequence[GuardJob]) -> None:
        for job in batch:
            self._waiting.popleft()
            self._characters -= len(job.text)

    async def _write(self, batch: Sequence[GuardJob]) -> None:
        oldest = int((self._clock.now() - MAX_AGE).timestamp() * 1000)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for job in batch:
                pipeline.xadd(STREAM, {FIELD: job_to_bytes(job)}, maxlen=MAX_ENTRIES, approximate=True)
            # Exactly, for an approximate trim leaves what shares a node with younger entries.
            pipeline.xtrim(STREAM, minid=str(oldest), approximate=False)
            # The last ones go also when no more come and no process is left to read them.
            pipeline.expire(STREAM, MAX_AGE)
            await pipeline.execute()
