"""Engine `synthetic`: no model, but the behaviour of one, for tests and for measuring the mesh.

It works in steps as an engine with continuous batching does: a step yields the next token of every running answer, at
the pace that is asked for. One timer drives all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.inference.engines import synthetic_text
from services.inference.engines.engine import read_options, unsupported_capability
from services.inference.engines.synthetic_answer import Answer
from services.inference.engines.synthetic_cache import PrefixCache
from services.inference.engines.synthetic_options import Faults, SyntheticOptions
from services.inference.engines.synthetic_pace import Pace
from services.inference.model import (
    Capability,
    Embeddings,
    EngineStats,
    FinishReason,
    GenerationRequest,
    Sink,
    TokenCounts,
)
from services.runtime.model_registry import ModelEntry

_CAPABILITIES = frozenset(
    {
        Capability.CHAT,
        Capability.TOOLS,
        Capability.JSON,
        Capability.LOGPROBS,
        Capability.LOGIT_BIAS,
        Capability.PENALTIES,
    }
)


class SyntheticEngine:
    """Deterministic text, a function of the request alone, at a steady pace."""

    def __init__(self, entry: ModelEntry) -> None:
        self._entry = entry
        self._options = read_options(entry, SyntheticOptions)
        self._pace = Pace(self._options)
        self._cache = PrefixCache(self._options.kv_cache_tokens or entry.context_length * entry.slots)
        self._answers: dict[int, Answer] = {}
        self._decoding: dict[int, Answer] = {}
        self._first_tokens: dict[int, asyncio.TimerHandle] = {}
        self._timer: asyncio.Handle | None = None
        self._next_step = 0.0
        self._faults = Faults(self._options)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All that can be done without a model, less what its options take from it."""
        return _CAPABILITIES - {Capability(name) for name in self._options.lacks}

    async def start(self) -> None:
        """Draw the text."""
        synthetic_text.vocabulary()

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        """Begin a generation."""
        loop = asyncio.get_running_loop()
        answer = Answer(
            request,
            sink,
            entry=self._entry,
            options=self._options,
            capabilities=self.capabilities,
            cache=self._cache,
            faults=self._faults,
        )
        self._answers[request.key] = answer
        first_s = self._pace.first_token_s(loop.time(), uncached_tokens=answer.uncached_tokens)
        self._first_tokens[request.key] = loop.call_later(first_s, self._begin, answer)

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

    async def embed(self, texts: Sequence[str]) -> Embeddings:  # noqa: ARG002 - it has no vectors of any text
        """Vectors without a model would mean nothing."""
        raise unsupported_capability(self._entry.name, Capability.EMBEDDINGS)

    def stats(self) -> EngineStats:
        """How full its cache is, and how often it helped."""
        return self._cache.stats()

    async def check(self) -> None:
        """It always works."""

    async def close(self) -> None:
        """Cancel all generations."""
        for key in list(self._answers):
            self.cancel(key)
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self, answer: Answer) -> None:
        # The first token comes on its own time and the others with everybody's steps, so no token is ever late.
        key = answer.request.key
        del self._first_tokens[key]
        if answer.refusal is not None:
            self._forget(key)
            answer.finish(FinishReason.ERROR, answer.refusal)
        elif self._advance(answer, 1):
            self._decoding[key] = answer
            if self._timer is None:
                now = asyncio.get_running_loop().time()
                step_s = self._pace.step_s(now)
                self._next_step = now + step_s
                self._schedule(step_s)

    def _schedule(self, step_s: float) -> None:
        loop = asyncio.get_running_loop()
        if step_s:
            self._timer = loop.call_at(self._next_step, self._step)
        else:
            self._timer = loop.call_soon(self._step)

    def _step(self) -> None:
        steps = 1
        now = asyncio.get_running_loop().time()
        step_s = self._pace.step_s(now)
        if step_s:
            # A loop that was busy makes up for the steps that it missed.
            steps += int((now - self._next_step) / step_s)
            self._next_step += steps * step_s
        self._timer = None
        try:
            for key, answer in list(self._decoding.items()):
                # An earlier one's sink may have cancelled it.
                if key in self._decoding and not self._advance(answer, steps):
                    self._decoding.pop(key, None)
        finally:
            # A sink that raises must not stop the answers of all others.
            if self._decoding:
                self._schedule(step_s)

    def _advance(self, answer: Answer, tokens: int) -> bool:
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
