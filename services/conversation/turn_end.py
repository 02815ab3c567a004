"""How a turn ends: stored with its text and its usage, and said in its log; or undone when it never began."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from services.conversation.answer_end import REFUSED, STATUS
from services.conversation.chat_model import FinishReason, TokenUsage
from services.conversation.convert import error_summary
from services.conversation.decision import decision_of, receipt_from_log
from services.conversation.generation_log import Completed, Delta, Ended, Failed, GenerationLog, Retracted
from services.conversation.model import Message, MessageStatus, OpenTurn, Outcome
from services.conversation.released_text import shown_text
from services.conversation.route_model import RouteReceipt
from services.conversation.store import conversation_not_found
from services.conversation.taken_back import taken_back
from services.conversation.turn_finish import RevisionWantedError
from services.conversation.turn_store import TurnStore
from services.conversation.usage_outbox import UsageOutbox
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, Reason

_log = logging.getLogger(__name__)

STORE_PATIENCE_S = 60.0
"""How long an answer waits for the database to come back before its reader is told that it is not stored."""
RETRY_S = 0.1
MAX_RETRY_S = 2.0


@dataclass(frozen=True, slots=True)
class Result:
    """What was generated, by which model and where; of that only what was decided when who generated it is gone."""

    outcome: Outcome
    model: str
    route: RouteReceipt | None


class TurnEnding:
    """Ends turns, once each, whatever is retried. Raises GenerationMovedError when another server owns the turn."""

    def __init__(self, *, store: TurnStore, outbox: UsageOutbox, clock: Clock) -> None:
        self._store = store
        self._outbox = outbox
        self._clock = clock

    async def complete(self, turn: OpenTurn, result: Result, log: GenerationLog) -> Message | None:
        """Store what was generated and say so. Returns the answer as stored, None when its conversation is gone.

        Raises:
            DomainError: The database is away for too long.
        """
        message = await self._store_patiently(turn, result, log, patience_s=STORE_PATIENCE_S)
        self._outbox.wake()
        # What is stored counts: the conversation may be gone.
        error = message.error if message else error_summary(conversation_not_found(turn.conversation_id))
        said = result.outcome.error
        if error is not None and said is not None and error.reason == said.reason:
            # When to try again is not stored, but said to who waits.
            error = replace(error, retry_after_s=said.retry_after_s)
        log.append(Failed(error, message) if error else Completed(message))
        return message

    async def fail(self, turn: OpenTurn, log: GenerationLog, error: DomainError, result: Result | None = None) -> None:
        """Store a turn that cannot go on as failed, with what was shown of it, and say so.

        When the database is away for long the reader is told that nothing was stored, and it is stored later.

        Args:
            turn: The turn.
            log: Its log.
            error: Why it cannot go on.
            result: What was generated, when it only could not be stored.
        """
        log.seal()
        failed = _failed(log, error, result)
        summary = failed.outcome.error or error_summary(error)
        message: Message | None = None
        # Who has waited for an answer that is complete has waited long enough.
        patience_s = 0.0 if result else STORE_PATIENCE_S
        stored = False
        while not stored:
            try:
                message = await self._store_patiently(turn, failed, log, patience_s=patience_s)
                stored = True
            except DomainError:
                patience_s = STORE_PATIENCE_S
                if not log.closed:
                    log.append(Failed(summary, None))
        self._outbox.wake()
        if log.closed:
            return
        if message is not None and message.error is None:
            # An earlier try had stored it, and its reply was lost.
            log.append(Completed(message))
        else:
            # Unless it was taken back meanwhile, which counts more.
            error_stored = message.error if message is not None else None
            if error_stored is not None and error_stored.reason != summary.reason:
                summary = error_stored
            log.append(Failed(summary, message))

    async def refuse(self, turn: OpenTurn, error: DomainError, *, on_delay: Callable[[], None]) -> None:
        """Undo a turn that was not begun, however long that takes; otherwise another server would answer it.

        Calls `on_delay` when it cannot be undone at once, for nobody should wait for that.
        """
        delay_s = RETRY_S
        told = False
        while True:
            try:
                await self._refuse(turn, error)
            except DomainError as why:
                if not told:
                    _log.warning("a refused turn is not undone yet", extra={"reason": why.reason.value})
                    on_delay()
                    told = True
            else:
                return
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, MAX_RETRY_S)

    async def _refuse(self, turn: OpenTurn, error: DomainError) -> None:
        """Undo a turn; keep a message that was refused, marked as such."""
        if (status := REFUSED.get(error.reason)) is not None:
            summary = error_summary(error)
            await self._store.change_question(turn, status=status, error=summary)
            outcome = Outcome(status, FinishReason.CONTENT_FILTER, "", TokenUsage(), summary)
            await self._store.finish_turn(turn, outcome, model="", route=None, last_seq=0, revised=True)
            self._outbox.wake()
            return
        if not await self._store.discard_turn(turn):
            # Another server's by now, and so is what was reserved for it.
            return
        await self._outbox.release(
            generation_id=turn.generation_id, user_id=turn.user_id, tier=turn.tier, refusal=error.reason
        )

    async def _store_patiently(
        self, turn: OpenTurn, result: Result, log: GenerationLog, *, patience_s: float
    ) -> Message | None:
        """Store the answer, waiting for the database when it is away; taken back, if a late verdict says so."""
        give_up = self._clock.monotonic() + patience_s
        delay_s = RETRY_S
        outcome, revised = result.outcome, False
        while True:
            try:
                return await self._store.finish_turn(
                    turn, outcome, model=result.model, route=result.route, last_seq=log.end_seq, revised=revised
                )
            except RevisionWantedError as wanted:
                outcome, revised = taken_back(outcome, log, wanted.revision), True
                continue
            except DomainError:
                if self._clock.monotonic() + delay_s > give_up:
                    raise
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, MAX_RETRY_S)


def result_from_log(log: GenerationLog) -> Result:
    """The answer of a generation that needs no engine any more: as its engine ended it, or else as stopped."""
    ended = next((entry.event for entry in log.entries if isinstance(entry.event, Ended)), None)
    reason, usage = (ended.reason, ended.usage) if ended else (FinishReason.CANCELLED, _written(log))
    status = STATUS.get(reason, MessageStatus.COMPLETED)
    return _result(log, Outcome(status, reason, shown_text(log.entries), usage))


def _failed(log: GenerationLog, error: DomainError, result: Result | None) -> Result:
    if result is None:
        summary = error_summary(error)
        outcome = Outcome(MessageStatus.FAILED, FinishReason.ERROR, shown_text(log.entries), _written(log), summary)
        return _result(log, outcome)
    if result.outcome.error is not None:
        return result
    late = error
    if error.reason is Reason.DEPENDENCY_UNAVAILABLE:
        late = DomainError(error.reason, "The answer could not be stored in time.", metadata=error.metadata)
    outcome = replace(
        result.outcome, status=MessageStatus.FAILED, finish_reason=FinishReason.ERROR, error=error_summary(late)
    )
    return replace(result, outcome=outcome)


def _written(log: GenerationLog) -> TokenUsage:
    """The tokens behind what the log has, which were used, whoever counts them."""
    events = (entry.event for entry in log.entries)
    return TokenUsage(completion_tokens=sum(e.written.tokens for e in events if isinstance(e, Delta | Retracted)))


def _result(log: GenerationLog, outcome: Outcome) -> Result:
    """An outcome of which nobody knows more than the log."""
    decision = decision_of(log)
    return Result(outcome, decision.model if decision else "", receipt_from_log(log))
