"""A completion: an answer to messages that are given whole and belong to no conversation.

Nothing of its text is stored. Unlike a turn it ends when its client goes away, as clients of this kind of API expect.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.conversation.convert import error_summary
from services.conversation.generation_log import Completed, Failed, GenerationLog
from services.conversation.generator import Generator
from services.conversation.model import (
    ChatMessage,
    Outcome,
    RouteReceipt,
    Sampling,
    UsageRecord,
)
from services.conversation.peers.context import History
from services.conversation.preparation import Preparation, Prepared, Question
from services.conversation.usage_outbox import UsageOutbox
from services.runtime.clock import Clock, new_id
from services.runtime.errors import DomainError, Reason, internal_error
from services.runtime.identity import Identity, current_scope, enter_scope
from services.runtime.live_tasks import LiveTasks

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What is asked: the system prompt, the messages before the last, and the last, which is the user's."""

    model: str
    system_prompt: str
    history: tuple[ChatMessage, ...]
    user_message: str
    sampling: Sampling
    custom_instructions: str = ""
    truncate: bool = False
    """Whether to leave out old messages that do not fit, and not refuse."""


class Completion:
    """A completion that runs. `log` ends in `completed` or `failed`; `outcome` is set before that."""

    def __init__(self, log: GenerationLog, route: RouteReceipt) -> None:
        self.log = log
        self.route = route
        self.outcome: Outcome | None = None


class CompletionRunner:
    """Begins completions and keeps those that run."""

    def __init__(
        self,
        *,
        preparation: Preparation,
        generator: Generator,
        outbox: UsageOutbox,
        clock: Clock,
        drain_grace_s: float,
    ) -> None:
        self._preparation = preparation
        self._generator = generator
        self._outbox = outbox
        self._clock = clock
        self._tasks = LiveTasks(grace_s=drain_grace_s)
        self._running: set[str] = set()
        """Generations that run here."""

    async def begin(self, identity: Identity, request: CompletionRequest) -> Completion:
        """Begin a completion.

        Raises:
            DomainError: When it is refused; CONTEXT_LENGTH_EXCEEDED when not all of the messages fit, for leaving some
                out is not what was asked.
        """
        self._tasks.require_open()
        question = Question(
            generation_id=new_id(),
            conversation_id="",
            model=request.model,
            system_prompt=request.system_prompt,
            user_message=request.user_message,
            sampling=request.sampling,
            custom_instructions=request.custom_instructions,
            unchecked=(
                request.system_prompt,
                request.custom_instructions,
                *(message.content for message in request.history),
            ),
        )
        try:
            prepared = await self._preparation.prepare(question, history=_pages(request.history))
            if prepared.prompt.truncated and not request.truncate:
                raise _too_long(prepared)
        except BaseException as error:
            # Also when the client went away: the tokens that were reserved are free again.
            self._tasks.start(self._release(identity, question, error))
            raise
        completion = Completion(GenerationLog(question.generation_id), prepared.route.receipt)
        self._tasks.start(self._run(identity, question, prepared, completion))
        return completion

    def stop(self, completion: Completion) -> None:
        """Stop it because nobody listens any more."""
        self._generator.stop(completion.log.generation_id)

    async def drain(self) -> None:
        """Let the running completions end; those that take too long end as stopped."""
        await self._tasks.drain(self._stop_all)

    def _stop_all(self) -> None:
        for generation_id in self._running:
            self._generator.stop(generation_id)

    async def _run(self, identity: Identity, question: Question, prepared: Prepared, completion: Completion) -> None:
        log = completion.log
        # Its end is its client's going, not a deadline.
        enter_scope(replace(current_scope(), deadline=None))
        self._running.add(log.generation_id)
        try:
            outcome, route = await self._generator.generate(question, prepared, log)
        except Exception as error:  # noqa: BLE001 - whatever it was, the client must get a terminal event
            _log.exception("completion failed", extra={"generation_id": question.generation_id})
            log.append(Failed(error_summary(internal_error(question.generation_id)), None))
            await self._release(identity, question, error)
            return
        finally:
            self._running.discard(log.generation_id)
        completion.outcome = outcome
        log.append(Failed(outcome.error, None) if outcome.error else Completed(None))
        await self._record(
            UsageRecord(
                generation_id=question.generation_id,
                user_id=identity.user_id,
                tier=identity.tier,
                conversation_id="",
                model=route.model.name,
                usage=outcome.usage,
                finish_reason=outcome.finish_reason,
                ended_at=self._clock.now(),
            )
        )

    async def _release(self, identity: Identity, question: Question, error: BaseException) -> None:
        await self._outbox.release(
            generation_id=question.generation_id,
            user_id=identity.user_id,
            tier=identity.tier,
            refusal=error.reason if isinstance(error, DomainError) else None,
        )

    async def _record(self, record: UsageRecord) -> None:
        try:
            await self._outbox.add(record)
        except DomainError as error:
            _log.error("usage is lost", extra={"generation_id": record.generation_id, "reason": error.reason.value})


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
