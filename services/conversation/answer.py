"""One answer on its way from the engine through moderation into the log.

Everything here is called on the event loop by the two multiplexed streams and returns at once; there is no task and no
await per token. When its engine is lost the answer is continued on another one, from what was written so far: what was
shown never changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from services.conversation.convert import error_summary
from services.conversation.generation_log import Delta, Ended, GenerationLog, Notice, NoticeKind, Retracted
from services.conversation.model import FinishReason, MessageStatus, Outcome, Prompt, Route, Sampling, TokenUsage
from services.conversation.peers.convert import Retraction
from services.conversation.peers.inference import InferencePeers
from services.conversation.peers.moderation import ModerationPeer, content_blocked
from services.conversation.released_text import ReleasedText
from services.runtime.errors import DomainError, Reason

STOP_PATIENCE_S = 1.0
"""How long an engine that was told to stop may take to say that it has."""
STATUS = {
    FinishReason.CANCELLED: MessageStatus.STOPPED,
    FinishReason.CONTENT_FILTER: MessageStatus.BLOCKED,
    FinishReason.ERROR: MessageStatus.FAILED,
}
"""What becomes of an answer by how it ended; of the others, completed."""
_RECOVERABLE = {
    Reason.ENGINE_FAILED,
    Reason.OVERLOADED,
    Reason.DRAINING,
    Reason.NO_REPLICA,
    Reason.DEPENDENCY_UNAVAILABLE,
}
"""Errors of an engine that another one may not have."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The engine is gone, and the answer is not complete."""

    error: DomainError


class Answer:
    """Generates one answer and shows it as far as it is clear.

    Args:
        log: Where shown text goes.
        inference: The replicas.
        moderation: The checker.
        sampling: How to sample; `max_tokens` is for the whole answer.
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
        first_token_timeout_s: float,
        stall_timeout_s: float,
        on_late_tokens: Callable[[int], None],
    ) -> None:
        self.generation_id = log.generation_id
        self._log = log
        self._inference = inference
        self._moderation = moderation
        self._sampling = sampling
        self._first_token_timeout_s = first_token_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._on_late_tokens = on_late_tokens
        self._text = ReleasedText()
        self._unsent: list[str] = []
        self._leg: _Leg | None = None
        self._legs = 0
        self._loop = asyncio.get_running_loop()
        self._progress_at = self._loop.time()
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._completion_tokens: int | None = None
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
        return not self._text.written

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopping

    def resume(self, log: GenerationLog) -> None:
        """Take over what another server has generated and not ended, from its log."""
        for entry in log.entries:
            if isinstance(entry.event, Delta | Retracted):
                self._text.restore(entry.event)
        if not self.empty:
            self.rewind()
            self._moderation.submit(self)

    async def run(self, route: Route, prompt: Prompt) -> Outcome | Lost:
        """Generate and show until the end, or until the engine is lost. Cancelling this cancels the generation."""
        transcript = self._text.transcript
        # An engine that holds to a form cannot begin in the middle of it. It begins again, and what it says must be
        # what was said.
        repeats = self._sampling.response_format is not None and not self.empty
        tokens_before = 0 if repeats else transcript.cut()
        left = (self._sampling.max_tokens or prompt.available_output_tokens) - tokens_before
        if self._stopping or left <= 0:
            self._finish_text(FinishReason.CANCELLED if self._stopping else FinishReason.LENGTH)
            return await self._wait(None)
        self._legs += 1
        if self._legs > 1:
            self._log.append(Notice(NoticeKind.ENGINE_REPLACED))
        self._prompt_tokens = self._prompt_tokens or route.model.context_length - prompt.available_output_tokens
        self._progress_at = self._loop.time()
        leg = self._leg = _Leg(
            self,
            stream_id=self._stream_id(),
            route=route,
            tokens_before=tokens_before,
            to_repeat=self._text.written if repeats else "",
        )
        self._inference.start(
            route.address,
            stream_id=leg.stream_id,
            model=route.model.name,
            messages=prompt.messages,
            sampling=replace(self._sampling, max_tokens=left),
            continuation=() if repeats else transcript.continuation(),
            sink=leg,
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

    async def _wait(self, leg: _Leg | None) -> Outcome | Lost:
        """The outcome, or that the engine is lost, also when nothing has happened for too long."""
        while True:
            if self._outcome is not None:
                return self._outcome
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

    def _patience_s(self, leg: _Leg | None) -> float:
        if self._stopping:
            return STOP_PATIENCE_S
        if leg is not None and not leg.spoke:
            return self._first_token_timeout_s
        return self._stall_timeout_s

    def _silent(self, leg: _Leg | None) -> None:
        """Nothing was heard for too long, of the engine or, after its end, of the checker."""
        error = DomainError(Reason.ENGINE_FAILED, "The answer stopped coming; ask again.")
        if leg is None or self._reason is not FinishReason.NONE:
            self._end(FinishReason.CANCELLED if self._stopping else FinishReason.ERROR, error)
        elif self._stopping:
            # An engine that does not even say that it has stopped.
            leg.forget()
            self._progress_at = self._loop.time()
            self._finish_text(FinishReason.CANCELLED)
        else:
            self.lose(leg, error)

    def lose(self, leg: _Leg, error: DomainError) -> None:
        """The engine is gone."""
        leg.forget()
        leg.lost = error
        self._news.set()

    # What the engine says

    def written(self, text: str, token_ids: Sequence[int], tokens: int) -> None:
        """More text, and the tokens behind it."""
        if self._ended:
            return
        self._progress_at = self._loop.time()
        if self._stopping and tokens:
            self._on_late_tokens(tokens)
        if not text:
            self._text.write("", token_ids, tokens)
            return
        # The database holds no NUL; the replacement is as long, so that offsets stay.
        text = text.replace("\0", "\ufffd")
        self._text.write(text, token_ids, tokens)
        self._unsent.append(text)
        self._moderation.submit(self)

    def engine_ended(self, leg: _Leg, reason: FinishReason, usage: TokenUsage, error: DomainError | None) -> None:
        """The engine has ended; what it wrote is still to be checked to its end."""
        if self._ended:
            return
        self._progress_at = self._loop.time()
        cancelled_by_itself = reason is FinishReason.CANCELLED and not self._stopping
        if cancelled_by_itself or (error is not None and error.reason in _RECOVERABLE and not self._stopping):
            self.lose(leg, error or DomainError(Reason.DRAINING, "The replica was shut down; ask again."))
            return
        if usage.prompt_tokens:
            self._prompt_tokens = max(0, usage.prompt_tokens - leg.tokens_before)
            self._cached_tokens = usage.cached_tokens if not leg.tokens_before else self._cached_tokens
            self._completion_tokens = leg.tokens_before + usage.completion_tokens
        self._error = error
        self._finish_text(reason if not (self._stopping and error) else FinishReason.CANCELLED)

    def mismatched(self) -> None:
        """An engine that repeats the answer says something else than was shown."""
        error = DomainError(
            Reason.ANSWER_LOST,
            "The engine was lost and the answer could not be continued in its form; regenerate it.",
            metadata={"generation_id": self.generation_id},
        )
        self._end(FinishReason.ERROR, error)

    def _finish_text(self, reason: FinishReason) -> None:
        self._reason = reason
        if self.empty:
            self._end(reason, self._error)
        else:
            self._moderation.submit(self)

    # What moderation asks and says

    def take_segment(self) -> tuple[str, bool]:
        """The text that was not sent yet, and whether it is the last."""
        text = "".join(self._unsent)
        self._unsent.clear()
        return text, self._reason is not FinishReason.NONE

    def rewind(self) -> None:
        """Send everything again: the checker forgot it."""
        self._unsent = [self._text.written]

    def on_verdict(self, watermark: int, retractions: Sequence[Retraction], *, done: bool) -> None:
        """Show what is clear, take back what is not."""
        if self._ended:
            return
        self._progress_at = self._loop.time()
        blocked: Retraction | None = None
        for r in retractions:
            retracted = self._text.retract(r.start, r.end, r.replacement, r.category)
            if retracted is not None:
                self._log.append(retracted)
            if r.ends_answer:
                blocked = r
        delta = self._text.clear(watermark)
        if delta is not None:
            self._log.append(delta)
        if blocked is not None:
            error = content_blocked("This answer", blocked.category, blocked.policy_version)
            self._end(FinishReason.CONTENT_FILTER, error)
        elif done:
            self._end(self._reason, self._error)

    def on_moderation_lost(self, error: DomainError) -> None:
        """Nothing more will be cleared."""
        self._end(FinishReason.ERROR, error)

    def _end(self, reason: FinishReason, error: DomainError | None) -> Outcome:
        if self._outcome is not None:
            return self._outcome
        self._ended = True
        completion_tokens = self._completion_tokens
        if completion_tokens is None:
            # It was ended before the engine could say what it used, and the tokens were used all the same.
            completion_tokens = self._text.transcript.tokens
        used = bool(completion_tokens) or not error
        usage = TokenUsage(self._prompt_tokens if used else 0, completion_tokens, self._cached_tokens)
        if reason is FinishReason.CANCELLED:
            error = None
        if error is None and not self._log.ended:
            self._log.append(Ended(reason, usage))
        self._outcome = Outcome(
            status=STATUS.get(reason, MessageStatus.COMPLETED),
            finish_reason=reason,
            content=self._text.shown,
            usage=usage,
            error=error_summary(error) if error else None,
        )
        self._news.set()
        return self._outcome


class _Leg:
    """The answer on one engine. Hears of it until it is lost."""

    def __init__(self, answer: Answer, *, stream_id: str, route: Route, tokens_before: int, to_repeat: str) -> None:
        self.stream_id = stream_id
        self.route = route
        self.tokens_before = tokens_before
        self.spoke = False
        self.lost: DomainError | None = None
        self._answer: Answer | None = answer
        self._to_repeat = to_repeat

    def on_delta(self, text: str, token_ids: Sequence[int], tokens: int) -> None:
        """More text."""
        answer = self._answer
        if answer is None:
            return
        self.spoke = True
        if self._to_repeat:
            count = min(len(text), len(self._to_repeat))
            if text[:count] != self._to_repeat[:count]:
                self.forget()
                answer.mismatched()
                return
            self._to_repeat = self._to_repeat[count:]
            text, token_ids, tokens = text[count:], (), 0 if self._to_repeat else tokens
        answer.written(text, token_ids, tokens)

    def on_end(self, reason: FinishReason, usage: TokenUsage, error: DomainError | None) -> None:
        """The engine has ended."""
        answer = self._answer
        if answer is None:
            return
        if self._to_repeat and error is None and reason in (FinishReason.STOP, FinishReason.LENGTH):
            self.forget()
            answer.mismatched()
        else:
            # One that did not come to say all again has not counted all either.
            answer.engine_ended(self, reason, TokenUsage() if self._to_repeat else usage, error)

    def forget(self) -> None:
        """Hear nothing more."""
        self._answer = None
