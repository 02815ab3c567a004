"""Generates the answer of a turn: all of it, or the rest of what another server has begun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from services.conversation.chat_model import Sampling
from services.conversation.decision import Decision, decision_of
from services.conversation.generation_log import Ended, GenerationLog, Started
from services.conversation.generator import Generator
from services.conversation.model import OpenTurn
from services.conversation.peers.context import History
from services.conversation.preparation import Preparation, Prepared, Question
from services.conversation.turn_end import Result, result_from_log
from services.conversation.turn_history import history_pages
from services.conversation.turn_store import TurnStore
from services.runtime.clock import Clock
from services.runtime.errors import DomainError, Reason
from services.runtime.identity import current_scope, enter_scope

RESUME_PATIENCE_S = 20.0
"""How long a turn that was taken over waits for the services that it needs."""
RESUME_RETRY_S = 0.5
TRANSIENT = {
    Reason.DEPENDENCY_UNAVAILABLE,
    Reason.NO_REPLICA,
    Reason.RESIDENCY_UNAVAILABLE,
    Reason.DRAINING,
    Reason.DEADLINE_EXCEEDED,
}


class TurnGeneration:
    """Asks the services that a turn needs, and then the engines."""

    def __init__(self, *, store: TurnStore, preparation: Preparation, generator: Generator, clock: Clock) -> None:
        self._store = store
        self._preparation = preparation
        self._generator = generator
        self._clock = clock

    async def run(
        self,
        turn: OpenTurn,
        sampling: Sampling,
        log: GenerationLog,
        *,
        on_begun: Callable[[], None],
    ) -> Result:
        """Generate what of an answer is not in its log.

        Calls `on_begun` once the log holds `started`.

        Raises:
            DomainError: The turn is refused, or cannot go on.
        """
        begun = decision_of(log)
        question = _question(turn, sampling, begun)
        history = partial(history_pages, self._store, turn)
        prepared = await self._prepare(turn, question, log, begun=begun, history=history)
        if prepared is None:
            # No engine is needed for it, nor any of the services.
            result = result_from_log(log)
            if not log.ended:
                log.append(Ended(result.outcome.finish_reason, result.outcome.usage))
            on_begun()
            return result
        if begun is None:
            if prepared.verdict.redacted is not None:
                await self._store.change_question(turn, content=prepared.verdict.redacted)
            log.append(_started(turn, prepared))
        else:
            prepared = begun.applied_to(prepared)
            log.append(begun.taken_over(prepared))
        on_begun()
        # From here on the turn goes on whether or not somebody waits.
        enter_scope(replace(current_scope(), deadline=None))
        outcome, route = await self._generator.generate(
            question, prepared, log, history=history, resume=begun is not None
        )
        return Result(outcome, route.model.name, replace(route.receipt, requested_model=turn.model))

    async def _prepare(
        self,
        turn: OpenTurn,
        question: Question,
        log: GenerationLog,
        *,
        begun: Decision | None,
        history: Callable[[], History],
    ) -> Prepared | None:
        """What is needed to generate; patiently when a user has seen a part of the answer already.

        None when the log has all of an answer, and when one that was begun shall stop. One that was not begun is
        prepared even then: its question is stored, and must be checked.
        """
        give_up = self._clock.monotonic() + RESUME_PATIENCE_S
        while True:
            if begun is not None and (log.ended or self._generator.stopping(turn.generation_id)):
                return None
            try:
                prepared = await self._preparation.prepare(question, history=history)
                if begun is not None:
                    begun.require(prepared)
            except DomainError as error:
                if begun is None or error.reason not in TRANSIENT or self._clock.monotonic() > give_up:
                    raise
            else:
                return prepared
            await asyncio.sleep(RESUME_RETRY_S)


def _question(turn: OpenTurn, sampling: Sampling, begun: Decision | None) -> Question:
    # As long as nothing was shown and nobody was replaced, the Router may choose as it did at first.
    model = turn.model if begun is None or begun.untouched else begun.model
    return Question(
        generation_id=turn.generation_id,
        conversation_id=turn.conversation_id,
        model=model,
        system_prompt=turn.system_prompt,
        custom_instructions=turn.custom_instructions,
        user_message=turn.user_message.content,
        cleared=turn.user_message.cleared,
        sampling=sampling,
        continues=begun is not None and not begun.untouched,
        unchecked=(turn.system_prompt, turn.custom_instructions),
        last_replica_id=turn.last_replica_id,
        affinity_keys=(turn.conversation_id, turn.affinity_id) if turn.affinity_id else (turn.conversation_id,),
    )


def _started(turn: OpenTurn, prepared: Prepared) -> Started:
    return Started(
        conversation_id=turn.conversation_id,
        user_message_id=turn.user_message.id,
        message_id=turn.answer_id,
        model=prepared.route.model.name,
        max_tokens=prepared.sampling.max_tokens or 0,
        route=replace(prepared.route.receipt, requested_model=turn.model),
    )
