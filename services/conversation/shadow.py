"""Copies of requests to second models, whose answers nobody sees: how long they take and how they end is recorded.

A shadow must not be felt: it has the least priority at its replica, is not charged, and is dropped when too many run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from services.conversation.chat_model import FinishReason
from services.conversation.engine_model import EngineEnd, GenerationOptions, TokenDetails
from services.conversation.experiment_store import ExperimentStore, ShadowRun
from services.conversation.peers.inference import InferencePeers
from services.conversation.preparation import Prepared, Question
from services.conversation.route_model import Priority, ShadowRoute
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, Reason
from services.runtime.live_tasks import LiveTasks

_log = logging.getLogger(__name__)

MAX_RUNNING = 64
"""Shadows of this process at one time; more are dropped."""
TIMEOUT_S = 120.0


class Shadows:
    """Starts shadows and records them."""

    def __init__(self, *, inference: InferencePeers, store: ExperimentStore, clock: Clock) -> None:
        self._inference = inference
        self._store = store
        self._clock = clock
        self._tasks = LiveTasks(grace_s=0.0)
        self._running = 0

    def start(self, question: Question, prepared: Prepared) -> None:
        """Send the copies that the Router asked for. Returns at once."""
        for number, shadow in enumerate(prepared.route.shadows, 1):
            if self._running < MAX_RUNNING:
                self._running += 1
                self._tasks.start(self._run(shadow, question, prepared, number))

    async def drain(self) -> None:
        """Leave off."""
        await self._tasks.drain(self._tasks.cancel)

    async def _run(self, shadow: ShadowRoute, question: Question, prepared: Prepared, number: int) -> None:
        sink = _Sink()
        # Not by its name: it may be long, and must not be taken for another copy, or for the answer itself.
        stream_id = f"{question.generation_id}.shadow.{number}"
        started = self._clock.monotonic()
        try:
            sampling = prepared.sampling
            limit = min(sampling.max_tokens or shadow.model.max_output_tokens, shadow.model.max_output_tokens)
            self._inference.start(
                shadow.address,
                stream_id=stream_id,
                model=shadow.model.name,
                messages=prepared.prompt.messages,
                sampling=replace(sampling, max_tokens=limit),
                continuation=(),
                sink=sink,
                options=GenerationOptions(tools=question.tools, priority=Priority.BACKGROUND),
            )
            end = await _end_of(sink)
            await self._store.record_shadow(
                ShadowRun(
                    name=shadow.name,
                    generation_id=question.generation_id,
                    model=shadow.model.name,
                    replica_id=shadow.replica_id,
                    finish_reason=end.reason,
                    error=end.error.reason.value if end.error else "",
                    usage=end.usage,
                    first_token_ms=end.first_token_ms,
                    duration_ms=(self._clock.monotonic() - started) * 1000,
                )
            )
        except DomainError as error:
            _log.warning("shadow is not recorded", extra={"shadow": shadow.name, "reason": error.reason.value})
        finally:
            self._running -= 1
            self._inference.cancel(shadow.address, stream_id)


async def _end_of(sink: _Sink) -> EngineEnd:
    """How it ended. One that takes too long counts, too, or a model would look the faster, the more of them it has."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await sink.end
    except TimeoutError:
        error = DomainError(Reason.DEADLINE_EXCEEDED, "The copy took too long.")
        return EngineEnd(FinishReason.ERROR, error=error)


class _Sink:
    """Takes an answer that nobody sees."""

    def __init__(self) -> None:
        self.end: asyncio.Future[EngineEnd] = asyncio.get_running_loop().create_future()

    def on_details(self, details: TokenDetails) -> None:
        """Nothing to do."""

    def on_delta(self, text: str, token_ids: Sequence[int], tokens: int) -> None:
        """Nothing to do."""

    def on_end(self, end: EngineEnd) -> None:
        """It is over."""
        if not self.end.done():
            self.end.set_result(end)
