"""Generates answers, each on the replica that was chosen for it, and on another when that one is lost."""

from __future__ import annotations

import asyncio

from services.conversation.answer import Answer
from services.conversation.generation_log import GenerationLog
from services.conversation.metrics import TurnMetrics
from services.conversation.model import Outcome, Route
from services.conversation.peers.inference import InferencePeers
from services.conversation.peers.moderation import ModerationPeer
from services.conversation.preparation import Preparation, Prepared, Question
from services.runtime.errors import DomainError, Reason

MAX_LEGS = 5
"""Engines that one answer is tried on, one after another."""
RETRY_S = 0.5
"""How long to wait before a replica that has failed is asked again, when there is no other."""


class Generator:
    """Generates and moderates; keeps the answers that are being generated."""

    def __init__(
        self,
        *,
        preparation: Preparation,
        inference: InferencePeers,
        moderation: ModerationPeer,
        metrics: TurnMetrics,
        first_token_timeout_s: float,
        stall_timeout_s: float,
        recovery_timeout_s: float,
    ) -> None:
        self._preparation = preparation
        self._inference = inference
        self._moderation = moderation
        self._metrics = metrics
        self._first_token_timeout_s = first_token_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._recovery_timeout_s = recovery_timeout_s
        self._answers: dict[str, Answer] = {}
        self._stopped: set[str] = set()
        """Those that were asked to stop, also before there was anything to stop."""

    async def generate(
        self, question: Question, prepared: Prepared, log: GenerationLog, *, resume: bool = False
    ) -> tuple[Outcome, Route]:
        """Generate into `log`, all but the terminal event. Returns how it ended and where it ran.

        Args:
            question: What is asked.
            prepared: What is needed for it.
            log: The log; with `resume` it has what another server generated, which is continued.
            resume: Whether to continue.
        """
        answer = Answer(
            log=log,
            inference=self._inference,
            moderation=self._moderation,
            sampling=prepared.sampling,
            first_token_timeout_s=self._first_token_timeout_s,
            stall_timeout_s=self._stall_timeout_s,
            on_late_tokens=self._metrics.tokens_after_stop,
        )
        if resume:
            answer.resume(log)
        if log.generation_id in self._stopped:
            answer.stop()
        self._answers[log.generation_id] = answer
        with self._metrics.turn(prepared.route.model.name) as measured:
            try:
                outcome, route = await self._run(answer, question, prepared)
            finally:
                answer.close()
                self._answers.pop(log.generation_id, None)
                self._stopped.discard(log.generation_id)
            measured.outcome(outcome)
        return outcome, route

    def stop(self, generation_id: str) -> None:
        """Stop an answer; what was shown stays, and it ends as stopped."""
        self._stopped.add(generation_id)
        answer = self._answers.get(generation_id)
        if answer is not None:
            answer.stop()

    def stopping(self, generation_id: str) -> bool:
        """Whether it was asked to stop."""
        return generation_id in self._stopped

    def forget(self, generation_id: str) -> None:
        """A generation that was asked to stop will not be generated."""
        self._stopped.discard(generation_id)

    async def _run(self, answer: Answer, question: Question, prepared: Prepared) -> tuple[Outcome, Route]:
        route = prepared.route
        failed: list[str] = []
        while True:
            result = await answer.run(route, prepared.prompt)
            if isinstance(result, Outcome):
                return result, route
            self._metrics.engine_lost(route.model.name, result.error.reason)
            failed.append(route.replica_id)
            following = None if len(failed) == MAX_LEGS else await self._next_route(answer, question, route, failed)
            if following is None:
                # Nobody else can; the last failure says most.
                return answer.give_up(result.error), route
            route = following

    async def _next_route(self, answer: Answer, question: Question, route: Route, failed: list[str]) -> Route | None:
        """Another replica of the same model, for which the prompt was counted; when there is none, the same again."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._recovery_timeout_s
        excluded = failed
        while not answer.stopping:
            try:
                return await self._preparation.route(question, model=route.model.name, excluded=excluded)
            except DomainError as error:
                if error.reason not in (Reason.NO_REPLICA, Reason.DEPENDENCY_UNAVAILABLE) or loop.time() > give_up:
                    return None
            # A replica that was restarted has the same name.
            excluded = []
            await asyncio.sleep(RETRY_S)
        return None
