"""Engine `synthetic`: no model, but the behaviour of one, for tests and for measuring the mesh.

It works in steps as an engine with continuous batching does: a step yields the next token of every running answer, at
the pace that is asked for. One timer drives all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from services.inference.engines import synthetic_text
from services.inference.engines.engine import (
    context_length_exceeded,
    engine_failed,
    read_options,
    unsupported_response_format,
)
from services.inference.engines.telling import NOTHING, Telling, Told, join
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
    fail_times: int | None = Field(
        None, ge=0, description="so many answers fail or stall as scripted, the next ones do not; unset is all of them"
    )
    accepts_response_format: bool = Field(
        False, description="takes a response format and ignores it: for an `answer` that has the form"
    )


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
        self._faults = _Faults(self._options)

    async def start(self) -> None:
        """Draw the text."""
        synthetic_text.endless_tape()

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        """Begin a generation."""
        loop = asyncio.get_running_loop()
        answer = _Answer(request, sink, entry=self._entry, options=self._options, faults=self._faults)
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
        if answer.refusal is not None:
            self._forget(key)
            answer.finish(FinishReason.ERROR, answer.refusal)
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


class _Faults:
    """The scripted faults of an engine that are still to come."""

    __slots__ = ("_left", "fail_at", "stall_at")

    def __init__(self, options: SyntheticOptions) -> None:
        self._left = options.fail_times
        self.fail_at = options.fail_after_tokens
        self.stall_at = options.stall_after_tokens
        self._disarm_when_spent()

    def happened(self) -> None:
        """One of them."""
        if self._left is not None:
            self._left -= 1
            self._disarm_when_spent()

    def _disarm_when_spent(self) -> None:
        if self._left is not None and self._left <= 0:
            self.fail_at = self.stall_at = None


class _Answer:
    """One answer being told."""

    __slots__ = (
        "_faults", "_fixed", "_length", "_offset", "_place", "_produced", "_prompt_tokens", "_sink", "_telling",
        "_told", "_told_all", "ended", "refusal", "request",
    )  # fmt: skip

    def __init__(
        self, request: GenerationRequest, sink: Sink, *, entry: ModelEntry, options: SyntheticOptions, faults: _Faults
    ) -> None:
        self.request = request
        self.ended = False
        self._sink = sink
        self._faults = faults
        sampling = request.sampling
        prompt, start = synthetic_text.open_answer(request.messages)
        prompt_tokens = synthetic_text.count_prompt_tokens(request.messages)
        self.refusal = self._refuse(entry, options, prompt_tokens)
        text = options.answer or synthetic_text.preface(seed=sampling.seed, messages=prompt)
        self._fixed = synthetic_text.cut(text)
        natural = len(self._fixed.ids) if options.answer else options.answer_tokens
        # Where on the endless tape the answer goes on after its fixed start.
        self._offset = synthetic_text.endless_tape().start(synthetic_text.seed_of(prompt, sampling.seed)) - len(
            self._fixed.ids
        )
        before, _ = self._skip(start, 0, natural)
        written = "".join(piece.text for piece in request.continuation)
        self._place, rest = self._skip(written, before, natural)
        self._prompt_tokens = prompt_tokens + synthetic_text.count_tokens(written)
        left = natural - self._place
        limit = min(
            # The limits of the model are those of the whole answer; that of the request counts new tokens.
            sampling.max_tokens or entry.max_output_tokens,
            entry.max_output_tokens - (self._place - before),
            entry.context_length - self._prompt_tokens,
        )
        self._length = max(0, min(left, limit))
        self._told_all = self._length == left
        self._produced = 0
        self._told = 0
        self._telling = Telling(sampling.stop)
        if rest:
            self._telling.take(rest, [], 0)

    def advance(self, tokens: int) -> bool:
        """Tell the next tokens. False when there is nothing more to tell, by the end or by a scripted fault."""
        faults = self._faults
        count = min(tokens, self._length - self._produced)
        for fault_at in (faults.fail_at, faults.stall_at):
            if fault_at is not None:
                count = min(count, fault_at - self._produced)
        told = self._next(count)
        if self._telling.stopped:
            self.finish(FinishReason.STOP, told=told)
            return False
        if self._produced == faults.fail_at:
            faults.happened()
            error = engine_failed(self.request.model, "The synthetic engine failed, as its options ask for.")
            self.finish(FinishReason.ERROR, error, told=told)
            return False
        if self._produced == self._length:
            self.finish(FinishReason.STOP if self._told_all else FinishReason.LENGTH, told=told)
            return False
        if told[2]:
            self._told += told[2]
            self._sink(Delta(self.request.generation_id, *told))
        if self._produced == faults.stall_at:
            faults.happened()
            return False
        return True

    def finish(self, reason: FinishReason, error: DomainError | None = None, *, told: Told = NOTHING) -> None:
        """End the answer."""
        self.ended = True
        if reason in (FinishReason.STOP, FinishReason.LENGTH):
            told = join(told, self._telling.end())
            if self._telling.stopped:
                reason = FinishReason.STOP
        text, ids, count = told
        self._told += count
        usage = Usage(prompt_tokens=self._prompt_tokens, completion_tokens=self._told)
        self._sink(Delta(self.request.generation_id, text, ids, count, End(reason, usage, error)))

    def _refuse(self, entry: ModelEntry, options: SyntheticOptions, prompt_tokens: int) -> DomainError | None:
        if prompt_tokens >= entry.context_length:
            return context_length_exceeded(entry.name, context_length=entry.context_length, prompt_tokens=prompt_tokens)
        if self.request.sampling.response_format is not None and not options.accepts_response_format:
            return unsupported_response_format(entry.name, f"{entry.name} cannot hold an answer to a form.")
        return None

    def _next(self, tokens: int) -> Told:
        told = NOTHING
        # Not one token after a stop string, so that the count does not depend on the pace.
        while tokens > 0 and not self._telling.stopped:
            text, token_id = self._token(self._place)
            self._place += 1
            self._produced += 1
            tokens -= 1
            taken = self._telling.take(text, [token_id], 1)
            told = join(told, taken) if told[2] else taken
        return told

    def _token(self, place: int) -> tuple[str, int]:
        tape: synthetic_text.Tape = self._fixed
        if place >= len(tape.ids):
            tape = synthetic_text.endless_tape()
            place = (self._offset + place) % len(tape.ids)
        return tape.texts[place], tape.ids[place]

    def _skip(self, text: str, place: int, natural: int) -> tuple[int, str]:
        """The place after a text that begins at `place`, and the rest of a token of which the text has only a part."""
        left = len(text)
        while left > 0 and place < natural:
            token, _ = self._token(place)
            place += 1
            if len(token) > left:
                return place, token[left:]
            left -= len(token)
        return place, ""
