"""One answer on its way from the engine through moderation into the log.

Everything here is called on the event loop by the two multiplexed streams and returns at once; there is no task and no
await per token. When its engine is lost the answer is continued on another one, from what was written so far: what was
shown never changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from services.conversation.answer_end import RECOVERABLE, REFUSED, WITH_CALLS, Lost, Weak, status_of
from services.conversation.chat_model import FinishReason, Sampling, TokenUsage
from services.conversation.convert import error_summary
from services.conversation.engine_model import EngineEnd, GenerationOptions, Prompt, TokenDetails
from services.conversation.extras import Extras
from services.conversation.generation_log import Ended, GenerationLog, Notice, NoticeKind
from services.conversation.leg import Leg
from services.conversation.meter import Meter
from services.conversation.model import Outcome
from services.conversation.moderation_model import AnswerContext, Availability, ModerationCheck, both
from services.conversation.peers.inference import InferencePeers
from services.conversation.peers.moderation import ModerationPeer
from services.conversation.probe import Judgement, Probe
from services.conversation.release import Release
from services.conversation.route_model import Route
from services.runtime.errors import DomainError, Reason

STOP_PATIENCE_S = 1.0
"""How long an engine that was told to stop may take to say that it has."""


class Answer:
    """Generates one answer and shows it as far as it is clear.

    Args:
        log: Where shown text goes.
        inference: The replicas.
        moderation: The checker.
        sampling: How to sample; `max_tokens` is for the whole answer.
        options: What else is asked of the engines.
        extras: What comes of that beside the text.
        context: What it is part of, for the checker.
        availability: What the policy says about the time when the checker is slow or gone.
        first_token_timeout_s: Longest wait for the first sign of life of an engine.
        stall_timeout_s: Longest pause after that.
        on_late_tokens: Told of tokens that came after the answer was asked to stop.
    """

    def __init__(
        self,
        *,
        log: GenerationLog,
        inference: InferencePeers,
        moderation: ModerationPeer,
        sampling: Sampling,
        options: GenerationOptions,
        extras: Extras,
        context: AnswerContext,
        availability: Availability | None,
        first_token_timeout_s: float,
        stall_timeout_s: float,
        on_late_tokens: Callable[[int], None],
    ) -> None:
        self.generation_id = log.generation_id
        self._log = log
        self._inference = inference
        self._moderation = moderation
        self._sampling = sampling
        self._options = options
        self._extras = extras
        self._first_token_timeout_s = first_token_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._on_late_tokens = on_late_tokens
        self.meter = Meter()
        self._release = Release(
            log=log, moderation=moderation, answer=self, extras=extras, context=context, availability=availability
        )
        self._probe: Probe | None = None
        """Holds back the beginning until it is judged."""
        self._held_end: EngineEnd | None = None
        """The end of an answer that is too weak."""
        self._leg: Leg | None = None
        self._legs = 0
        self._begins_anew = True
        """Whether the next engine is the first of its model."""
        self._loop = asyncio.get_running_loop()
        self._progress_at = self._loop.time()
        self._reason = FinishReason.NONE
        self._error: DomainError | None = None
        self._stopping = False
        self._ended = False
        """After this nothing that the engine or moderation still says counts."""
        self._outcome: Outcome | None = None
        self._news = asyncio.Event()
        """Set when there is something for who waits for the outcome."""

    @property
    def empty(self) -> bool:
        """Whether nothing was written."""
        return self._release.empty

    @property
    def check(self) -> tuple[ModerationCheck, str]:
        """What the check of it has come to, and the version of the policy that said so."""
        return both(self._release.check, self._extras.tool_calls.said), self._release.policy_version

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopping

    def resume(self) -> None:
        """Take over what another server has generated and not ended, from its log."""
        self._release.restore()

    def begin_anew(self, sampling: Sampling, notice: Notice) -> None:
        """Forget what was written and not shown: another model begins."""
        self._release.forget()
        self._probe = None
        self._held_end = None
        self.meter.forget()
        self._begins_anew = True
        self._sampling = sampling
        self._log.append(notice)

    def accept(self) -> Outcome | None:
        """Show what was held back after all. Returns the outcome when nothing is left to generate or check."""
        self._probe = None
        end, self._held_end = self._held_end, None
        if end is not None:
            self._settle(end)
        elif not self.empty:
            self._release.send()
        return self._outcome

    async def run(self, route: Route, prompt: Prompt) -> Outcome | Lost | Weak:
        """Generate and show until the end, or until the engine is lost. Cancelling this cancels the generation."""
        if self._reason is not FinishReason.NONE:
            # All is written; it only has to be checked to its end.
            return await self._wait(None)
        if route.cascade is not None and self.empty and not self._legs:
            self._probe = Probe(route.cascade)
        # An engine that holds to a form, or that looks for calls of tools, cannot begin in the middle. It begins again,
        # and what it says must be what was said.
        whole = self._sampling.response_format is not None or self._options.tools is not None
        repeats = whole and not self.empty
        tokens_before = 0 if repeats else self._release.cut()
        left = (self._sampling.max_tokens or prompt.available_output_tokens) - tokens_before
        if self._stopping or left <= 0:
            self._finish_text(FinishReason.CANCELLED if self._stopping else FinishReason.LENGTH)
            return await self._wait(None)
        self._legs += 1
        if not self._begins_anew:
            self._log.append(Notice(NoticeKind.ENGINE_REPLACED))
        self._begins_anew = False
        self._extras.restart()
        self.meter.begin(route.model.context_length - prompt.available_output_tokens)
        self._progress_at = self._loop.time()
        leg = self._leg = Leg(
            self,
            stream_id=self._stream_id(),
            route=route,
            tokens_before=tokens_before,
            to_repeat=self._release.written if repeats else "",
        )
        self._inference.start(
            route.address,
            stream_id=leg.stream_id,
            model=route.model.name,
            messages=prompt.messages,
            sampling=replace(self._sampling, max_tokens=left),
            continuation=() if repeats else self._release.continuation(),
            sink=leg,
            options=replace(
                self._options,
                confidence=self._probe is not None and self._probe.cascade.min_mean_logprob is not None,
                priority=route.priority,
            ),
        )
        try:
            return await self._wait(leg)
        finally:
            self._leg = None
            leg.forget()
            self._inference.cancel(route.address, leg.stream_id)

    def _stream_id(self) -> str:
        """Another one for each leg: an earlier one may still be ending on the same replica."""
        first = self._legs == 1 and self._log.epoch == 1
        return self.generation_id if first else f"{self.generation_id}.{self._log.epoch}.{self._legs}"

    def give_up(self, error: DomainError) -> Outcome:
        """End it without an engine: as stopped when that was asked for, as failed otherwise; what was shown stays."""
        return self._end(FinishReason.CANCELLED if self._stopping else FinishReason.ERROR, error)

    def close(self) -> None:
        """Nobody wants to know any more."""
        self._ended = True
        self._release.close()
        self._extras.tool_calls.abandon()
        self._moderation.abandon(self.generation_id)

    def stop(self) -> None:
        """Ask the engine to stop; what is shown until then stays."""
        if self._stopping:
            return
        self._stopping = True
        self._progress_at = self._loop.time()
        self._news.set()
        if self._leg is not None:
            self._inference.cancel(self._leg.route.address, self._leg.stream_id)

    async def _wait(self, leg: Leg | None) -> Outcome | Lost | Weak:
        """The outcome, or that the engine is lost, also when nothing has happened for too long."""
        while True:
            if self._outcome is not None:
                return self._outcome
            if self._probe is not None and self._probe.judgement is Judgement.WEAK:
                return Weak(self.meter.usage(written=self._release.tokens))
            if leg is not None and leg.lost is not None:
                return Lost(leg.lost)
            remaining_s = self._progress_at + self._patience_s(leg) - self._loop.time()
            if remaining_s <= 0:
                self._silent(leg)
                continue
            self._news.clear()
            try:
                # Looked at again in time for a stall: the first token shortens the patience without waking this.
                async with asyncio.timeout(min(remaining_s, self._stall_timeout_s)):
                    await self._news.wait()
            except TimeoutError:
                pass

    def _patience_s(self, leg: Leg | None) -> float:
        if self._stopping:
            return STOP_PATIENCE_S
        if leg is not None and not leg.spoke:
            return self._first_token_timeout_s
        return self._stall_timeout_s

    def _silent(self, leg: Leg | None) -> None:
        """Nothing was heard for too long, of the engine or, after its end, of the checker."""
        error = DomainError(Reason.ENGINE_FAILED, "The answer stopped coming; ask again.")
        if leg is None or self._reason is not FinishReason.NONE:
            self._end(FinishReason.CANCELLED, error) if self._stopping else self._release.give_up()
        elif self._stopping:
            # An engine that does not even say that it has stopped.
            leg.forget()
            self._progress_at = self._loop.time()
            self._finish_text(FinishReason.CANCELLED)
        else:
            self.lose(leg, error)

    def lose(self, leg: Leg, error: DomainError) -> None:
        """The engine is gone."""
        leg.forget()
        leg.lost = error
        self._news.set()

    # What the engine says

    def details(self, details: TokenDetails) -> None:
        """More of what was asked for beside the text."""
        if self._ended:
            return
        self._progress_at = self._loop.time()
        self._extras.add(details)
        if self._probe is not None and details.logprob_sum is not None:
            self._probe.add_logprob(details.logprob_sum, details.tokens)
        if self._probe is not None and details.tool_calls:
            # Who knows which tool to ask for is strong enough.
            self._probe = None
            if not self.empty:
                self._release.send()

    def written(self, text: str, token_ids: Sequence[int], tokens: int) -> None:
        """More text, and the tokens behind it."""
        if self._ended:
            return
        self._progress_at = self._loop.time()
        if self._stopping and tokens:
            self._on_late_tokens(tokens)
        self._release.write(text, token_ids, tokens)
        if self._judge(text, tokens) and text:
            self._release.send()

    def _judge(self, text: str, tokens: int) -> bool:
        """Whether what is written may go on its way to the reader."""
        probe = self._probe
        if probe is None:
            return True
        probe.add(text, tokens)
        self._act_on(probe)
        return self._probe is None

    def _act_on(self, probe: Probe) -> None:
        if probe.judgement is Judgement.STRONG:
            self._probe = None
        elif probe.judgement is Judgement.WEAK:
            self._news.set()

    def engine_ended(self, leg: Leg, end: EngineEnd) -> None:
        """The engine has ended; what it wrote is still to be checked to its end."""
        if self._ended:
            return
        self._progress_at = self._loop.time()
        error = end.error
        if error is not None and error.reason is Reason.UNSUPPORTED_RESPONSE_FORMAT and leg.tokens_before:
            # It cannot begin in the middle of an answer.
            self.mismatched()
            return
        cancelled_by_itself = end.reason is FinishReason.CANCELLED and not self._stopping
        if cancelled_by_itself or (error is not None and error.reason in RECOVERABLE and not self._stopping):
            self.lose(leg, error or DomainError(Reason.DRAINING, "The replica was shut down; ask again."))
            return
        probe = self._probe
        if probe is not None and error is None and not self._stopping:
            probe.end()
            self._act_on(probe)
            if self._probe is not None:
                self._held_end = end
                self.meter.end(end, tokens_before=leg.tokens_before)
                return
        self.meter.end(end, tokens_before=leg.tokens_before)
        self._settle(end)

    def _settle(self, end: EngineEnd) -> None:
        self._error = end.error
        self._finish_text(end.reason if not (self._stopping and end.error) else FinishReason.CANCELLED)

    def mismatched(self) -> None:
        """An engine that repeats the answer says something else than was shown."""
        error = DomainError(
            Reason.ANSWER_LOST,
            "The engine was lost and another one could not continue the answer; regenerate it.",
            metadata={"generation_id": self.generation_id},
        )
        self._end(FinishReason.ERROR, error)

    def _finish_text(self, reason: FinishReason) -> None:
        self._reason = reason
        self._probe = None
        if self.empty:
            self.cleared()
        else:
            self._release.finish()

    # What the check says

    def heard(self) -> None:
        """The checker works on it."""
        self._progress_at = self._loop.time()

    def cleared(self) -> None:
        """The text is checked to its end; what it asks of tools comes after it."""
        calls = self._extras.tool_calls
        if calls.empty or self._reason not in WITH_CALLS:
            self._end(self._reason, self._error)
        else:
            calls.check(self._moderation, self._calls_checked, beside=self._release)

    def _calls_checked(self, error: DomainError | None) -> None:
        if error is None:
            self._end(self._reason, self._error)
        else:
            self._end(FinishReason.CONTENT_FILTER if error.reason in REFUSED else FinishReason.ERROR, error)

    def blocked(self, error: DomainError) -> None:
        """It must end here."""
        self._end(FinishReason.CONTENT_FILTER, error)

    def unchecked(self, error: DomainError) -> None:
        """Nothing more will be cleared."""
        self._end(FinishReason.ERROR, error)

    def _end(self, reason: FinishReason, error: DomainError | None) -> Outcome:
        if self._outcome is not None:
            return self._outcome
        self._ended = True
        self._release.close()
        usage = self.meter.usage(written=self._release.tokens)
        if error and not usage.completion_tokens:
            usage = TokenUsage()
        if reason is FinishReason.CANCELLED:
            error = None
        if error is None and not self._log.ended:
            self._log.append(Ended(reason, usage))
        self._outcome = Outcome(
            status=status_of(reason, error),
            finish_reason=reason,
            content=self._release.shown,
            usage=usage,
            error=error_summary(error) if error else None,
        )
        self._news.set()
        return self._outcome
