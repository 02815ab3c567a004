"""Generates answers, each on the replica that was chosen for it, and on another when that one is lost or too weak."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from services.conversation.answer import Answer
from services.conversation.answer_end import Lost, Weak
from services.conversation.chat_model import TokenUsage
from services.conversation.engine_model import GenerationOptions
from services.conversation.extras import Extras
from services.conversation.generation_log import GenerationLog, Notice, NoticeKind
from services.conversation.metrics import TurnMetrics
from services.conversation.model import Outcome
from services.conversation.moderation_model import AnswerContext, ModerationReceipt
from services.conversation.peers.context import History
from services.conversation.peers.inference import InferencePeers
from services.conversation.peers.moderation import ModerationPeer
from services.conversation.preparation import REFUSALS, Preparation, Prepared, Question
from services.conversation.route_model import Route, RouteReceipt, after_cascade
from services.conversation.shadow import Shadows
from services.runtime.errors import DomainError, Reason
from services.runtime.identity import current_identity

MAX_LEGS = 5
"""Engines that one answer is tried on, one after another."""
RETRY_S = 0.5
"""How long to wait before a replica that has failed is asked again, when there is no other."""
_TRANSIENT = {Reason.NO_REPLICA, Reason.RESIDENCY_UNAVAILABLE, Reason.DEPENDENCY_UNAVAILABLE}


class Generator:
    """Generates and moderates; keeps the answers that are being generated."""

    def __init__(
        self,
        *,
        preparation: Preparation,
        inference: InferencePeers,
        moderation: ModerationPeer,
        shadows: Shadows,
        metrics: TurnMetrics,
        first_token_timeout_s: float,
        stall_timeout_s: float,
        recovery_timeout_s: float,
    ) -> None:
        self._preparation = preparation
        self._inference = inference
        self._moderation = moderation
        self._shadows = shadows
        self._metrics = metrics
        self._first_token_timeout_s = first_token_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._recovery_timeout_s = recovery_timeout_s
        self._answers: dict[str, Answer] = {}
        self._stopped: set[str] = set()
        """Those that were asked to stop, also before there was anything to stop."""

    async def generate(
        self,
        question: Question,
        prepared: Prepared,
        log: GenerationLog,
        *,
        history: Callable[[], History],
        resume: bool = False,
        extras: Extras | None = None,
    ) -> tuple[Outcome, Route]:
        """Generate into `log`, all but the terminal event.

        Returns how it ended and where it ran, with a receipt of all that it took.

        Args:
            question: What is asked.
            prepared: What is needed for it.
            log: The log; with `resume` it has what another server generated, which is continued.
            history: Begins to read what was said before, for another model's prompt.
            resume: Whether to continue.
            extras: Where what was asked for beside the text is kept.
        """
        answer = Answer(
            log=log,
            inference=self._inference,
            moderation=self._moderation,
            sampling=prepared.sampling,
            options=GenerationOptions(tools=question.tools, top_logprobs=question.top_logprobs),
            extras=extras or Extras(log.generation_id),
            context=_context(question, prepared),
            availability=prepared.verdict.availability,
            first_token_timeout_s=self._first_token_timeout_s,
            stall_timeout_s=self._stall_timeout_s,
            on_late_tokens=self._metrics.tokens_after_stop,
        )
        if resume:
            answer.resume()
        else:
            self._shadows.start(question, prepared)
        if log.generation_id in self._stopped:
            answer.stop()
        self._answers[log.generation_id] = answer
        route = prepared.route
        run = _Run(answer, question, prepared, history, route=route, decision=route.receipt)
        with self._metrics.turn(prepared.route.model.name) as measured:
            try:
                outcome = await self._run(run)
            finally:
                answer.close()
                self._answers.pop(log.generation_id, None)
                self._stopped.discard(log.generation_id)
            measured.outcome(outcome)
        return outcome, replace(run.route, receipt=run.receipt(outcome, epochs=log.epoch))

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

    async def _run(self, run: _Run) -> Outcome:
        answer = run.answer
        while True:
            result = await answer.run(run.route, run.prepared.prompt)
            match result:
                case Weak(usage):
                    await self._escalate(run, usage)
                case Lost(error):
                    self._metrics.engine_lost(run.route.model.name, error.reason)
                    run.failed.append(run.route.replica_id)
                    if len(run.failed) == MAX_LEGS or not await self._reroute(run, error.reason):
                        # Nobody else can; the last failure says most.
                        return answer.give_up(error)
                case Outcome():
                    return result

    async def _escalate(self, run: _Run, usage: TokenUsage) -> None:
        """Ask the stronger model; when it cannot answer now, the weak answer is better than none."""
        weak = run.route
        assert weak.cascade is not None  # noqa: S101 - only a route with a cascade is judged
        try:
            route = await self._preparation.route(
                run.question, model=weak.cascade.model, excluded=run.failed, escalated_from=weak.model.name
            )
            await self._change_model(run, route, NoticeKind.ESCALATED)
        except DomainError as error:
            self._metrics.escalation(weak.model.name, "", failed=error.reason)
            run.answer.accept()
            return
        run.wasted.append((weak, usage))
        self._metrics.escalation(weak.model.name, route.model.name)

    async def _reroute(self, run: _Run, reason: Reason) -> bool:
        """Another replica; when there is none, the same again. Whether there is one.

        Who has begun is followed by the same model, for which the prompt was counted and whose tokens were written;
        when nothing was written yet, another one that the Router falls back to may answer.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._recovery_timeout_s
        excluded, failed = run.failed, "" if reason in REFUSALS else run.route.replica_id
        while not run.answer.stopping:
            try:
                route = await self._preparation.route(
                    run.question, model=run.route.model.name, excluded=excluded, failed=failed, continues=True
                )
                if route.model.name == run.route.model.name:
                    run.route = replace(route, cascade=run.route.cascade)
                    return True
                if run.answer.empty:
                    await self._change_model(run, route, NoticeKind.ENGINE_REPLACED)
                    return True
            except DomainError as error:
                # Who is told at once that all are full can come back when it helps; an answer that was begun waits.
                full = reason is Reason.OVERLOADED and run.answer.empty
                if full or error.reason not in _TRANSIENT:
                    return False
            if loop.time() > give_up:
                return False
            # A replica that was restarted has the same name.
            excluded, failed = [], ""
            await asyncio.sleep(RETRY_S)
        return False

    async def _change_model(self, run: _Run, route: Route, kind: NoticeKind) -> None:
        """Begin anew with another model: its prompt is assembled, and nothing of the first is shown."""
        prepared = await self._preparation.assemble(run.question, route, run.prepared, history=run.history())
        run.prepared = prepared
        run.route = prepared.route
        run.answer.begin_anew(prepared.sampling, Notice(kind, route.model.name, prepared.sampling.max_tokens or 0))


@dataclass(slots=True)
class _Run:
    """An answer on its way over engines."""

    answer: Answer
    question: Question
    prepared: Prepared
    history: Callable[[], History]
    route: Route
    """The one that runs, or ran last."""
    decision: RouteReceipt
    """Of the first route: what was asked and what was weighed."""
    failed: list[str] = field(default_factory=list)
    """Replicas that have failed."""
    wasted: list[tuple[Route, TokenUsage]] = field(default_factory=list)
    """What was generated and never shown, and where."""

    def receipt(self, outcome: Outcome, *, epochs: int) -> RouteReceipt:
        """The receipt of the whole: the decision was made for the first route, the answer came from the last."""
        used = [*self.wasted, (self.route, outcome.usage)]
        weak = self.wasted[0][0].model.name if self.wasted else self.decision.escalated_from
        models = self.decision.models
        check, version = self.answer.check
        verdict = self.prepared.verdict
        costs = [route.model.prices.cost_nano_usd(usage) for route, usage in used if route.model.prices is not None]
        return replace(
            self.route.receipt,
            requested_model=self.decision.requested_model,
            classification=self.decision.classification,
            experiments=self.decision.experiments,
            models=after_cascade(models, weak=weak, model=self.route.model.name) if weak else models,
            escalated_from=weak,
            queue_ms=self.answer.meter.queue_ms,
            first_token_ms=self.answer.meter.first_token_ms,
            retries=len(self.failed),
            epochs=epochs,
            cost_nano_usd=sum(costs) if costs else None,
            moderation=ModerationReceipt(version or verdict.policy_version, input=verdict.check, output=check),
        )


def _context(question: Question, prepared: Prepared) -> AnswerContext:
    identity = current_identity()
    return AnswerContext(
        user_id=identity.user_id if identity else "",
        tier=identity.tier if identity else "",
        tenant_id=identity.tenant_id if identity else "",
        residency=identity.residency if identity else "",
        conversation_id=question.conversation_id,
        # What a user has written into the prompt is no secret to them.
        protected_text="" if question.system_prompt else prepared.route.model.default_system_prompt,
    )
