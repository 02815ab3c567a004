"""One answer on its way from the engine through moderation into the log.

Everything here is called on the event loop by the two multiplexed streams and returns at once; there is no task and no
await per token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.conversation.convert import error_summary
from services.conversation.generation_log import GenerationLog
from services.conversation.model import FinishReason, MessageStatus, Outcome, Prompt, Route, Sampling, TokenUsage
from services.conversation.peers.convert import Retraction
from services.conversation.peers.inference import InferencePeers
from services.conversation.peers.moderation import ModerationPeer, content_blocked
from services.conversation.released_text import ReleasedText
from services.runtime.errors import DomainError, Reason

_STATUS = {
    FinishReason.CANCELLED: MessageStatus.STOPPED,
    FinishReason.CONTENT_FILTER: MessageStatus.BLOCKED,
    FinishReason.ERROR: MessageStatus.FAILED,
}


class Answer:
    """Generates one answer and shows it as far as it is clear.

    Args:
        log: Where shown text goes.
        inference: The replicas.
        moderation: The checker.
        first_token_timeout_s: Longest wait for the first sign of life.
        stall_timeout_s: Longest pause after that.
    """

    def __init__(
        self,
        *,
        log: GenerationLog,
        inference: InferencePeers,
        moderation: ModerationPeer,
        first_token_timeout_s: float,
        stall_timeout_s: float,
    ) -> None:
        self.generation_id = log.generation_id
        self._log = log
        self._inference = inference
        self._moderation = moderation
        self._first_token_timeout_s = first_token_timeout_s
        self._stall_timeout_s = stall_timeout_s
        self._text = ReleasedText()
        self._unsent: list[str] = []
        self._address = ""
        self._loop = asyncio.get_running_loop()
        self._progress_at = self._loop.time()
        self._tokens = 0
        self._most_prompt_tokens = 0
        self._usage = TokenUsage()
        self._reason = FinishReason.NONE
        self._error: DomainError | None = None
        self._ended = False
        """After this nothing that the engine or moderation still says counts."""
        self._outcome: asyncio.Future[Outcome] = self._loop.create_future()

    @property
    def empty(self) -> bool:
        """Whether the engine has written nothing."""
        return not self._text.written

    async def run(self, route: Route, prompt: Prompt, sampling: Sampling) -> Outcome:
        """Generate and show until the end, whatever it is. Cancelling this cancels the generation."""
        self._address = route.address
        self._inference.start(
            route.address,
            generation_id=self.generation_id,
            model=route.model.name,
            messages=prompt.messages,
            sampling=sampling,
            sink=self,
        )
        self._most_prompt_tokens = route.model.context_length - prompt.available_output_tokens
        try:
            return await self._wait(route.model.name)
        finally:
            self._ended = True
            self._inference.cancel(self._address, self.generation_id)
            self._moderation.abandon(self.generation_id)

    async def _wait(self, model: str) -> Outcome:
        """The outcome; a failure when nothing has happened for too long."""
        self._progress_at = self._loop.time()
        while True:
            patience_s = self._first_token_timeout_s if self.empty else self._stall_timeout_s
            remaining_s = self._progress_at + patience_s - self._loop.time()
            if remaining_s <= 0:
                message = "The answer stopped coming; ask again."
                self._end(FinishReason.ERROR, DomainError(Reason.ENGINE_FAILED, message, metadata={"model": model}))
            # Looked at again in time for a stall: the first token shortens the patience without waking this.
            done, _ = await asyncio.wait({self._outcome}, timeout=min(remaining_s, self._stall_timeout_s))
            if done:
                return self._outcome.result()

    def cancel(self) -> None:
        """Ask the engine to stop; what is shown until then stays."""
        self._inference.cancel(self._address, self.generation_id)

    # What the engine says

    def on_delta(self, text: str, tokens: int) -> None:
        """More text, and how many tokens it took."""
        if self._ended:
            return
        self._progress_at = self._loop.time()
        self._tokens += tokens
        if text:
            # The database holds no NUL; the replacement is as long, so that offsets stay.
            text = text.replace("\0", "\ufffd")
            self._text.write(text)
            self._unsent.append(text)
            self._moderation.submit(self)

    def on_end(self, reason: FinishReason, usage: TokenUsage, error: DomainError | None) -> None:
        """The engine has ended; what it wrote is still to be checked to its end."""
        if self._ended:
            return
        self._progress_at = self._loop.time()
        self._reason, self._usage, self._error = reason, usage, error
        if self.empty:
            self._end(reason, error)
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

    def _end(self, reason: FinishReason, error: DomainError | None) -> None:
        if self._ended:
            return
        self._ended = True
        usage = self._usage
        if not usage.prompt_tokens and self._tokens:
            # It was ended before the engine could say what it used, and the tokens were used all the same.
            usage = TokenUsage(self._most_prompt_tokens, self._tokens)
        self._outcome.set_result(
            Outcome(
                status=_STATUS.get(reason, MessageStatus.COMPLETED),
                finish_reason=reason,
                content=self._text.shown,
                usage=usage,
                error=error_summary(error) if error else None,
            )
        )
