"""What a sink was given, checked as it comes: these rules hold for every answer of every case."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from services.inference.conformance.expectation import ConformanceError, expect, quote
from services.inference.model import (
    Capability,
    Delta,
    End,
    FinishReason,
    GeneratedPiece,
    GenerationRequest,
    TokenLogprob,
)

_ROUNDING = 1e-3
"""Of sums of logarithms."""


class Answer:
    """One answer of an engine. `take` is its sink."""

    def __init__(self, request: GenerationRequest, capabilities: frozenset[Capability]) -> None:
        self.request = request
        self.deltas: list[Delta] = []
        self.text = ""
        self._capabilities = capabilities
        self._changed = asyncio.Event()
        self._complaints: list[str] = []

    @property
    def ended(self) -> bool:
        """Whether it has its end."""
        return bool(self.deltas) and self.deltas[-1].end is not None

    @property
    def end(self) -> End:
        """How it ended."""
        end = self.deltas[-1].end if self.deltas else None
        if end is None:
            raise ConformanceError("the answer has no end")
        return end

    @property
    def tokens(self) -> int:
        """How many were counted."""
        return sum(delta.token_count for delta in self.deltas)

    @property
    def token_ids(self) -> list[int]:
        """The ids of its tokens, as far as they were given."""
        return [token for delta in self.deltas for token in delta.token_ids]

    @property
    def logprobs(self) -> list[TokenLogprob]:
        """Of all its tokens."""
        return [logprob for delta in self.deltas for logprob in delta.logprobs]

    @property
    def pieces(self) -> tuple[GeneratedPiece, ...]:
        """It, as another engine is given it to go on."""
        return pieces_of(self.deltas)

    def take(self, delta: Delta) -> None:
        """Take a delta. Never raises: an engine may not be harmed by what a sink thinks of it."""
        if self.ended:
            self._complain("something came after the end")
        self.deltas.append(delta)
        self.text += delta.text
        self._look_at(delta)
        if delta.end is not None:
            self._look_at_end(delta.end)
        self._changed.set()

    async def until(self, condition: Callable[[Answer], bool], *, patience_s: float) -> Answer:
        """Wait until something holds of it.

        Raises:
            ConformanceError: it did not come to hold before the answer ended, or within the time.
        """
        try:
            async with asyncio.timeout(patience_s):
                while not condition(self):
                    expect(not self.ended, "the answer ended too early")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise ConformanceError(f"nothing more came for {patience_s:.0f} s") from None
        return self

    async def finished(self, *, patience_s: float) -> Answer:
        """Wait for its end.

        Raises:
            ConformanceError: it did not come, or the answer broke a rule.
        """
        await self.until(lambda answer: answer.ended, patience_s=patience_s)
        self.raise_complaints()
        return self

    def raise_complaints(self) -> None:
        """Say what was wrong with what came so far.

        Raises:
            ConformanceError: something was.
        """
        expect(not self._complaints, "; ".join(dict.fromkeys(self._complaints)))

    def _look_at(self, delta: Delta) -> None:
        if delta.generation_id != self.request.generation_id:
            self._complain("a delta names another generation")
        if delta.token_count < 0:
            self._complain("a delta takes tokens back")
        if delta.token_ids and len(delta.token_ids) != delta.token_count:
            self._complain(f"a delta has {len(delta.token_ids)} token ids and counts {delta.token_count} tokens")
        if delta.end is None and not (delta.text or delta.token_count or delta.tool_calls):
            self._complain("a delta says nothing")
        self._look_at_logprobs(delta)
        for stop in self.request.sampling.stop:
            if stop in self.text:
                self._complain(f"the stop string {quote(stop)} was shown")

    def _look_at_logprobs(self, delta: Delta) -> None:
        if self.request.top_logprobs is not None and len(delta.logprobs) != delta.token_count:
            self._complain(f"a delta has {len(delta.logprobs)} log-probabilities and counts {delta.token_count} tokens")
        if self.request.top_logprobs is None and delta.logprobs:
            self._complain("log-probabilities came that nobody asked for")
        known = self.request.confidence and Capability.LOGPROBS in self._capabilities
        if known and delta.token_count and delta.logprob_sum is None:
            self._complain("a delta has no logprob_sum, though it was asked for")
        if delta.logprob_sum is not None and delta.logprob_sum > _ROUNDING:
            self._complain(f"a logprob_sum is {delta.logprob_sum}, more than 0")
        if delta.logprob_sum is not None and len(delta.logprobs) == delta.token_count:
            total = sum(logprob.logprob for logprob in delta.logprobs)
            if delta.token_count and abs(total - delta.logprob_sum) > _ROUNDING * delta.token_count:
                self._complain(f"a logprob_sum is {delta.logprob_sum}, and its log-probabilities add up to {total}")

    def _look_at_end(self, end: End) -> None:
        if (end.finish_reason is FinishReason.ERROR) != (end.error is not None):
            self._complain(f"the end is {end.finish_reason.value} and has {'an' if end.error else 'no'} error")
        usage = end.usage
        if usage.completion_tokens != self.tokens:
            self._complain(f"usage says {usage.completion_tokens} tokens, the deltas {self.tokens}")
        if not 0 <= usage.cached_tokens <= usage.prompt_tokens:
            self._complain(f"{usage.cached_tokens} of {usage.prompt_tokens} prompt tokens were cached")

    def _complain(self, what: str) -> None:
        self._complaints.append(what)


def pieces_of(deltas: Sequence[Delta]) -> tuple[GeneratedPiece, ...]:
    """Deltas, as what was generated before."""
    return tuple(GeneratedPiece(delta.text, tuple(delta.token_ids)) for delta in deltas)
