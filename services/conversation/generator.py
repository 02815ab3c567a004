"""Generates answers, each on the replica that was chosen for it, or on another when that one fails at once."""

from __future__ import annotations

from services.conversation.answer import Answer
from services.conversation.generation_log import GenerationLog
from services.conversation.metrics import TurnMetrics
from services.conversation.model import FinishReason, Outcome, Route
from services.conversation.peers.inference import InferencePeers
from services.conversation.peers.moderation import ModerationPeer
from services.conversation.preparation import Preparation, Prepared, Question
from services.runtime.errors import DomainError

MAX_ROUTES = 3
"""Replicas that are tried, one after another, while nothing has been generated."""


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
    ) -> None:
        self._preparation = preparation
        self._inference = inference
        self._moderation = moderation
        self._metrics = metrics
        self._first_token_timeout_s = first_token_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._answers: dict[str, Answer] = {}
        self._stopped: set[str] = set()
        """Those that were asked to stop; not only the answer, for it may be between two replicas."""

    async def generate(self, question: Question, prepared: Prepared, log: GenerationLog) -> tuple[Outcome, Route]:
        """Generate into `log`, all but the terminal event. Returns how it ended and where it ran."""
        with self._metrics.turn(prepared.route.model.name) as measured:
            try:
                outcome, route = await self._try_replicas(question, prepared, log)
            finally:
                self._stopped.discard(log.generation_id)
            measured.outcome(outcome)
        return outcome, route

    def stop(self, generation_id: str) -> None:
        """Stop an answer; what was shown stays, and it ends as stopped."""
        self._stopped.add(generation_id)
        answer = self._answers.get(generation_id)
        if answer is not None:
            answer.cancel()

    def stop_all(self) -> None:
        """Stop every answer."""
        for generation_id in list(self._answers):
            self.stop(generation_id)

    async def _try_replicas(self, question: Question, prepared: Prepared, log: GenerationLog) -> tuple[Outcome, Route]:
        route = prepared.route
        failed: list[str] = []
        while True:
            answer = Answer(
                log=log,
                inference=self._inference,
                moderation=self._moderation,
                first_token_timeout_s=self._first_token_timeout_s,
                stall_timeout_s=self._stall_timeout_s,
            )
            self._answers[log.generation_id] = answer
            try:
                outcome = await answer.run(route, prepared.prompt, prepared.sampling)
            finally:
                self._answers.pop(log.generation_id, None)
            failed.append(route.replica_id)
            again = outcome.finish_reason is FinishReason.ERROR and answer.empty and len(failed) < MAX_ROUTES
            if not again or log.generation_id in self._stopped:
                return outcome, route
            try:
                # Of the same model: the prompt was counted for it.
                route = await self._preparation.route(question, model=route.model.name, excluded=failed)
            except DomainError:
                # Nobody else can; the first failure says more than this one.
                return outcome, route
