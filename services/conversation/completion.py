"""A completion: an answer to messages that are given whole and belong to no conversation.

Nothing of its text is stored. Unlike a turn it ends when its client goes away, as clients of this kind of API expect.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from services.conversation.convert import error_summary
from services.conversation.generation_log import Completed, Failed, GenerationLog
from services.conversation.generator import Generator
from services.conversation.model import (
    ChatMessage,
    FinishReason,
    Outcome,
    RouteReceipt,
    Sampling,
    TokenUsage,
    UsageRecord,
)
from services.conversation.peers.context import History
from services.conversation.preparation import Preparation, Prepared, Question
from services.conversation.usage_outbox import UsageOutbox
from services.runtime.clock import Clock, new_id
from services.runtime.errors import DomainError, Reason, internal_error
from services.runtime.identity import Identity

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What is asked: the system prompt, the messages before the last, and the last, which is the user's."""

    model: str
    system_prompt: str
    history: tuple[ChatMessage, ...]
    user_message: str
    sampling: Sampling


class Completion:
    """A completion that runs. `log` ends in `completed` or `failed`; `outcome` is set before that."""

    def __init__(self, log: GenerationLog, route: RouteReceipt) -> None:
        self.log = log
        self.route = route
        self.outcome: Outcome | None = None


class CompletionRunner:
    """Begins completions and keeps those that run."""

    def __init__(self, *, preparation: Preparation, generator: Generator, outbox: UsageOutbox, clock: Clock) -> None:
        self._preparation = preparation
        self._generator = generator
        self._outbox = outbox
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, identity: Identity, request: CompletionRequest) -> Completion:
        """Begin a completion.

        Raises:
            DomainError: When it is refused; CONTEXT_LENGTH_EXCEEDED when not all of the messages fit, for leaving some
                out is not what was asked.
        """
        question = Question(
            generation_id=new_id(),
            conversation_id="",
            model=request.model,
            system_prompt=request.system_prompt,
            user_message=request.user_message,
            sampling=request.sampling,
        )
        try:
            prepared = await self._preparation.prepare(question, history=_pages(request.history))
            if prepared.prompt.truncated:
                raise _too_long(prepared)
        except (DomainError, asyncio.CancelledError):
            self._keep(self._settle(identity, question, "", TokenUsage(), FinishReason.ERROR))
            raise
        completion = Completion(GenerationLog(question.generation_id), prepared.route.receipt)
        self._keep(self._run(identity, question, prepared, completion))
        return completion

    def stop(self, completion: Completion) -> None:
        """Stop it because nobody listens any more."""
        self._generator.stop(completion.log.generation_id)

    async def drain(self) -> None:
        """Wait until the running completions have ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, identity: Identity, question: Question, prepared: Prepared, completion: Completion) -> None:
        log = completion.log
        try:
            outcome, route = await self._generator.generate(question, prepared, log)
        except Exception:  # noqa: BLE001 - whatever it was, the client must get a terminal event
            _log.exception("completion failed", extra={"generation_id": question.generation_id})
            log.append(Failed(error_summary(internal_error(question.generation_id)), None))
            return
        completion.outcome = outcome
        log.append(Failed(outcome.error, None) if outcome.error else Completed(None))
        await self._settle(identity, question, route.model.name, outcome.usage, outcome.finish_reason)

    async def _settle(
        self, identity: Identity, question: Question, model: str, usage: TokenUsage, reason: FinishReason
    ) -> None:
        record = UsageRecord(
            generation_id=question.generation_id,
            user_id=identity.user_id,
            tier=identity.tier,
            conversation_id="",
            model=model,
            usage=usage,
            finish_reason=reason,
            ended_at=self._clock.now(),
        )
        try:
            await self._outbox.add(record)
        except DomainError as error:
            _log.error("usage is lost", extra={"generation_id": question.generation_id, "reason": error.reason.value})

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _pages(history: Sequence[ChatMessage]) -> History:
    position = len(history)

    async def next_page(limit: int) -> tuple[Sequence[tuple[str, ChatMessage]], bool]:
        nonlocal position
        start = max(0, position - limit)
        page = [(str(index), history[index]) for index in range(position - 1, start - 1, -1)]
        position = start
        return page, start == 0

    return next_page


def _too_long(prepared: Prepared) -> DomainError:
    model = prepared.route.model
    return DomainError(
        Reason.CONTEXT_LENGTH_EXCEEDED,
        f"The messages do not fit into the model's context of {model.context_length} tokens; shorten them.",
        metadata={"model": model.name, "context_length": str(model.context_length)},
    )
