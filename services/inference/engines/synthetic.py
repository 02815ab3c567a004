"""Engine `synthetic`: no model, but the behaviour of one, for tests and for measuring the mesh.

It works in steps as an engine with continuous batching does: a step yields the next token of every running answer, at
the pace that is asked for. One timer drives all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from services.inference.engines import synthetic_text
from services.inference.engines.engine import context_length_exceeded, engine_failed, read_options
from services.inference.engines.stop_strings import StopMatcher
from services.inference.model import Delta, End, FinishReason, GenerationRequest, Sink, TokenCounts, Usage
from services.runtime.errors import DomainError
from services.runtime.model_registry import ModelEntry


class SyntheticOptions(BaseModel):
    """`engine_options` of a synthetic model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens_per_second: float = Field(50.0, ge=0, le=10_000, description="of each answer; 0 is as fast as possible")
    time_to_first_token_ms: float = Field(0.0, ge=0, description="from the start to the first token")
    answer_tokens: int = Field(64, ge=1, description="length of an answer, unless max_tokens ends it before")
    answer: str = Field("", description="says this and nothing else")
    fail_after_tokens: int | None = Field(None, ge=0, description="the engine fails after so many tokens")
    stall_after_tokens: int | None = Field(None, ge=0, description="the engine says nothing more after so many tokens")


class SyntheticEngine:
    """Deterministic text, a function of the prompt and the seed alone, at a steady pace."""

    def __init__(self, entry: ModelEntry) -> None:
        self._entry = entry
        self._options = read_options(entry, SyntheticOptions)
        self._step_s = 1 / self._options.tokens_per_second if self._options.tokens_per_second else 0.0
        self._answers: dict[int, _Answer] = {}
        self._decoding: dict[int, _Answer] = {}
        self._first_tokens: dict[int, asyncio.TimerHandle] = {}
        self._timer: asyncio.Handle | None = None
        self._next_step = 0.0

    async def start(self) -> None:
        """Draw the text."""
        synthetic_text.endless_tape()

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        """Begin a generation."""
        loop = asyncio.get_running_loop()
        answer = _Answer(request, sink, entry=self._entry, options=self._options)
        self._answers[request.key] = answer
        self._first_tokens[request.key] = loop.call_later(
            self._options.time_to_first_token_ms / 1000, self._begin, answer
        )

    def cancel(self, key: int) -> None:
        """End a generation."""
        answer = self._answers.get(key)
        if answer is not None:
            self._forget(key)
            answer.finish(FinishReason.CANCELLED)

    async def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        """Count by the rule of the synthetic text; what the template adds is exact."""
        return TokenCounts(
            counts=tuple(synthetic_text.count_tokens(text) for text in texts),
            tokens_per_message=synthetic_text.TOKENS_PER_MESSAGE,
            tokens_per_prompt=synthetic_text.TOKENS_PER_PROMPT,
        )

    async def check(self) -> None:
        """It always works."""

    async def close(self) -> None:
        """Cancel all generations."""
        for key in list(self._answers):
            self.cancel(key)
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self, answer: _Answer) -> None:
        # The first token comes on its own time and the others with everybody's steps, so no token is ever late.
        key = answer.request.key
        del self._first_tokens[key]
        if answer.too_long is not None:
            self._forget(key)
            answer.finish(FinishReason.ERROR, answer.too_long)
        elif self._advance(answer, 1):
            self._decoding[key] = answer
            if self._timer is None:
                self._next_step = asyncio.get_running_loop().time() + self._step_s
                self._schedule()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        if self._step_s:
            self._timer = loop.call_at(self._next_step, self._step)
        else:
            self._timer = loop.call_soon(self._step)

    def _step(self) -> None:
        steps = 1
        if self._step_s:
            # A loop that was busy makes up for the steps that it missed.
            steps += int((asyncio.get_running_loop().time() - self._next_step) / self._step_s)
            self._next_step += steps * self._step_s
        self._timer = None
        try:
            for key, answer in list(self._decoding.items()):
                # An earlier one's sink may have cancelled it.
                if key in self._decoding and not self._advance(answer, steps):
                    self._decoding.pop(key, None)
        finally:
            # A sink that raises must not stop the answers of all others.
            if self._decoding:
                self._schedule()

    def _advance(self, answer: _Answer, tokens: int) -> bool:
        going = answer.advance(tokens)
        if answer.ended:
            self._forget(answer.request.key)
        return going

    def _forget(self, key: int) -> None:
        self._answers.pop(key, None)
        self._decoding.pop(key, None)
        timer = self._first_tokens.pop(key, None)
        if timer is not None:
            timer.cancel()


class _Answer:
    """One answer being told."""

    __slots__ = (
        "_fail_at", "_fixed", "_length", "_matcher", "_offset", "_place", "_produced", "_prompt_tokens", "_sink",
        "_stall_at", "_told_all", "ended", "request", "too_long",
    )  # fmt: skip

    def __init__(self, request: GenerationRequest, sink: Sink, *, entry: ModelEntry, options: SyntheticOptions) -> None:
        self.request = request
        self.ended = False
        self._sink = sink
        sampling = request.sampling
        prompt, start = synthetic_text.open_answer(request.messages)
        self._prompt_tokens = synthetic_text.count_prompt_tokens(request.messages)
        self.too_long = (
            context_length_exceeded(entry.name, context_length=entry.context_length, prompt_tokens=self._prompt_tokens)
            if self._prompt_tokens >= entry.context_length
            else None
        )
        text = options.answer or synthetic_text.preface(seed=sampling.seed, messages=prompt)
        self._fixed = synthetic_text.cut(text)
        natural = len(self._fixed.ids) if options.answer else options.answer_tokens
        # Where on the endless tape the answer goes on after its fixed start.
        self._offset = synthetic_text.endless_tape().start(synthetic_text.seed_of(prompt, sampling.seed)) - len(
            self._fixed.ids
        )
        self._place = self._skip(start, natural) if start else 0
        left = natural - self._place
        limit = min(
            sampling.max_tokens or entry.max_output_tokens,
            entry.max_output_tokens,
            entry.context_length - self._prompt_tokens,
        )
        self._told_all = left <= limit
        self._length = max(0, min(left, limit))
        self._produced = 0
        self._matcher = StopMatcher(sampling.stop) if sampling.stop else None
        self._fail_at = options.fail_after_tokens
        self._stall_at = options.stall_after_tokens

    def advance(self, tokens: int) -> bool:
        """Tell the next tokens. False when there is nothing more to tell, by the end or by a scripted fault."""
        count = min(tokens, self._length - self._produced)
        for fault_at in (self._fail_at, self._stall_at):
            if fault_at is not None:
                count = min(count, fault_at - self._produced)
        text, ids = self._take(count)
        self._produced += count
        if self._matcher is not None:
            text = self._matcher.feed(text)
            if self._matcher.stopped:
                self.finish(FinishReason.STOP, text=text, token_ids=ids)
                return False
        if self._produced == self._fail_at:
            error = engine_failed(self.request.model, "The synthetic engine failed, as its options ask for.")
            self.finish(FinishReason.ERROR, error, text=text, token_ids=ids)
            return False
        if self._produced == self._length:
            if self._matcher is not None:
                text += self._matcher.flush()
            natural_end = self._told_all or (self._matcher is not None and self._matcher.stopped)
            self.finish(FinishReason.STOP if natural_end else FinishReason.LENGTH, text=text, token_ids=ids)
            return False
        if count:
            self._sink(Delta(self.request.generation_id, text, ids, count))
        return self._produced != self._stall_at

    def finish(
        self,
        reason: FinishReason,
        error: DomainError | None = None,
        *,
        text: str = "",
        token_ids: Sequence[int] = (),
    ) -> None:
        """End the answer."""
        self.ended = True
        ids = list(token_ids)
        usage = Usage(prompt_tokens=self._prompt_tokens, completion_tokens=self._produced)
        self._sink(Delta(self.request.generation_id, text, ids, len(ids), End(reason, usage, error)))

    def _take(self, count: int) -> tuple[str, list[int]]:
        first = self._place
        self._place += count
        if count == 1:
            text, token_id = self._token(first)
            return text, [token_id]
        tokens = [self._token(place) for place in range(first, self._place)]
        return "".join(text for text, _ in tokens), [token_id for _, token_id in tokens]

    def _token(self, place: int) -> tuple[str, int]:
        tape: synthetic_text.Tape = self._fixed
        if place >= len(tape.ids):
            tape = synthetic_text.endless_tape()
            place = (self._offset + place) % len(tape.ids)
        return tape.texts[place], tape.ids[place]

    def _skip(self, start: str, natural: int) -> int:
        length = 0
        for place in range(natural):
            if length >= len(start):
                return place
            length += len(self._token(place)[0])
        return natural
