"""The check of what a user sends: patterns at once, the classifier in batches with what others send.

What the classifier is unsure of is shown to a guard model, where the policy has one, before it passes.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from services.moderation.guard.guard import Guard, findings
from services.moderation.guard.model import Mode, Opinion
from services.moderation.judge import InputTexts, Judge, Judging, Question
from services.moderation.model import Direction, Finding, Layer, Verdict
from services.moderation.policy import GuardPolicy, UserPolicy
from services.moderation.scoring import Scoring
from services.runtime.errors import DomainError, Reason, first_error
from services.runtime.identity import current_identity

_THREAD_FROM = 4_000
"""Code points of input from which the search would hold up the streams noticeably and goes to a thread. Text that is
made to be slow takes about ten microseconds for each, and prose half of one."""
_THREADS = 2
"""For inputs that take long: a search cannot be stopped, and nothing else may have to wait for one."""
_EACH = 50
"""What a text costs for itself, as so many code points."""
_AT_ONCE = 16
"""Texts of one input that wait for the classifier, so that a long history leaves room for what others send."""


class InputCheck:
    """Judges inputs. `scoring` is the classifier and `guard` asks the guard model; None when there is none."""

    def __init__(self, *, judge: Judge, scoring: Scoring | None, guard: Guard | None = None) -> None:
        self._judge = judge
        self._scoring = scoring
        self._guard = guard
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="input-check")

    async def check(self, texts: InputTexts, policy: UserPolicy) -> Verdict:
        """Judge an input.

        Raises:
            DomainError: DEPENDENCY_UNAVAILABLE when the policy lets nothing pass without a layer that did not answer.
        """
        judging = await self.judging(texts, policy)
        if policy.guard is not None and self._guard is not None and not judging.action.refuses:
            await self._ask_guard(self._guard, judging, texts, policy, policy.guard)
        return judging.verdict()

    async def judging(self, texts: InputTexts, policy: UserPolicy) -> Judging:
        """Judge an input by all layers but the guard, and keep what each said."""
        if sum(_EACH + len(text) for text in (*texts.texts, *texts.earlier, *texts.untrusted)) < _THREAD_FROM:
            judging = self._judge.begin(texts, policy)
        else:
            judging = await asyncio.get_running_loop().run_in_executor(self._pool, self._judge.begin, texts, policy)
        if judging.questions and self._scoring is not None:
            await self._ask_classifier(self._scoring, judging, policy)
        return judging

    async def _ask_classifier(self, scoring: Scoring, judging: Judging, policy: UserPolicy) -> None:
        began = time.perf_counter()
        until = began + policy.stream.patience_ms / 1000
        questions = iter(judging.questions)

        async def ask(question: Question) -> None:
            left_s = max(0.0, until - time.perf_counter())
            scores = await scoring.score(question.text, Direction.INPUT, timeout_s=left_s, quick=question.quick)
            if scores is None and policy.input.classifier_is_needed:
                raise DomainError(
                    Reason.DEPENDENCY_UNAVAILABLE,
                    "The message could not be checked in time, so it was not sent to the model; try again shortly.",
                    metadata={"service": "moderation"},
                )
            judging.take(question, scores)

        async def ask_in_turn() -> None:
            for question in questions:
                await ask(question)

        if len(judging.questions) == 1:
            await ask_in_turn()
        else:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(_AT_ONCE, len(judging.questions))):
                        group.create_task(ask_in_turn())
            except* DomainError as errors:
                raise first_error(errors) from errors
        judging.classified(seconds=time.perf_counter() - began)

    async def _ask_guard(
        self, guard: Guard, judging: Judging, texts: InputTexts, policy: UserPolicy, how: GuardPolicy
    ) -> None:
        text = judging.unsure(harm=how.unsure_harm, attack=how.unsure_attack)
        if text is None:
            return
        began = time.perf_counter()
        identity = current_identity()
        heard = await guard.ask(
            how,
            mode=Mode.WAITED_FOR,
            direction=Direction.INPUT,
            text=text,
            residency=identity.residency if identity else "",
        )
        found: list[Finding] = []
        if isinstance(heard, Opinion):
            length = len(texts.texts[-1])
            found = findings(heard, how, policy.input.categories, direction=Direction.INPUT, length=length)
        seconds = time.perf_counter() - began
        judging.add(Layer.GUARD, found, seconds=seconds, unchecked=not isinstance(heard, Opinion))
