"""One answer of the synthetic engine, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.inference.engines import synthetic_text
from services.inference.engines.engine import (
    context_length_exceeded,
    engine_failed,
    unsupported_capability,
    unsupported_response_format,
)
from services.inference.engines.synthetic_cache import PrefixCache, prefixes
from services.inference.engines.synthetic_logprobs import SyntheticLogprobs
from services.inference.engines.synthetic_options import Faults, SyntheticOptions
from services.inference.engines.synthetic_script import Script, write_script
from services.inference.engines.telling import NOTHING, Telling, Told, join
from services.inference.model import (
    Capability,
    Delta,
    End,
    FinishReason,
    GenerationRequest,
    Message,
    Sink,
    ToolCallDelta,
    Usage,
)
from services.runtime.errors import DomainError
from services.runtime.model_registry import ModelEntry

_FORCES, _BANS = 100.0, -100.0
"""Biases of this engine: what lies between has no effect, for there are no logits."""

_Token = tuple[str, int, bytes]
"""Text that becomes complete with it, id, bytes."""


class Answer:
    """One answer being told. `uncached_tokens` of its prompt have to be computed."""

    __slots__ = (
        "_cache", "_chat", "_entry", "_faults", "_length", "_logprobs", "_offset", "_place", "_produced",
        "_prompt_tokens", "_said", "_script", "_sink", "_telling", "_token", "_told", "_told_all", "_usage_cached",
        "ended", "refusal", "request",
    )  # fmt: skip

    def __init__(
        self,
        request: GenerationRequest,
        sink: Sink,
        *,
        entry: ModelEntry,
        options: SyntheticOptions,
        capabilities: frozenset[Capability],
        cache: PrefixCache,
        faults: Faults,
    ) -> None:
        self.request = request
        self.ended = False
        self._entry = entry
        self._sink = sink
        self._cache = cache
        self._faults = faults
        sampling = request.sampling
        prompt, start = synthetic_text.open_answer(request.messages)
        self._chat = prefixes(prompt)
        prompt_tokens = synthetic_text.TOKENS_PER_PROMPT + sum(prefix.tokens for prefix in self._chat)
        self._prompt_tokens = prompt_tokens
        if start:
            self._prompt_tokens += synthetic_text.count_message_tokens(request.messages[-1])
        self._usage_cached = 0
        asked = request.top_logprobs is not None or request.confidence
        wanted = asked and Capability.LOGPROBS in capabilities
        self._logprobs = SyntheticLogprobs(mean=options.mean_logprob, top=request.top_logprobs) if wanted else None
        self._script = Script(synthetic_text.NO_TAPE, 0, 0)
        self.refusal = self._refuse(capabilities) or self._write(prompt, prompt_tokens, options)
        # Where on the endless tape the answer goes on after its fixed start.
        self._offset = synthetic_text.endless_tape().start(self._script.seed) - len(self._script.start.ids)
        self._token = self._biased() if sampling.logit_bias else self._at
        self._begin(start, sampling.max_tokens)

    @property
    def uncached_tokens(self) -> int:
        """Tokens of the prompt that have to be computed."""
        return self._prompt_tokens - self._usage_cached

    def advance(self, tokens: int) -> bool:
        """Tell the next tokens. False when there is nothing more to tell, by the end or by a scripted fault."""
        faults = self._faults
        count = min(tokens, self._length - self._produced)
        for fault_at in (faults.fail_at, faults.stall_at):
            if fault_at is not None:
                count = min(count, fault_at - self._produced)
        calls: Sequence[ToolCallDelta] = ()
        if self._script.calls:
            told, calls = self._next_of_calls(count)
        else:
            told = self._next(count)
        if self._telling.stopped:
            self.finish(FinishReason.STOP, told=told)
            return False
        if self._produced == faults.fail_at:
            faults.happened()
            error = engine_failed(self.request.model, "The synthetic engine failed, as its options ask for.")
            self.finish(FinishReason.ERROR, error, told=told, calls=calls)
            return False
        if self._produced == self._length:
            whole = FinishReason.TOOL_CALLS if self._script.calls else FinishReason.STOP
            self.finish(whole if self._told_all else FinishReason.LENGTH, told=told, calls=calls)
            return False
        if told[2]:
            self._sink(self._delta(told, calls))
        if self._produced == faults.stall_at:
            faults.happened()
            return False
        return True

    def finish(
        self,
        reason: FinishReason,
        error: DomainError | None = None,
        *,
        told: Told = NOTHING,
        calls: Sequence[ToolCallDelta] = (),
    ) -> None:
        """End the answer."""
        self.ended = True
        if reason in (FinishReason.STOP, FinishReason.LENGTH):
            told = join(told, self._telling.end())
            if self._telling.stopped:
                reason = FinishReason.STOP
        delta = self._delta(told, calls)
        usage = Usage(self._prompt_tokens, self._told, self._usage_cached)
        delta.end = End(reason, usage, error)
        if self.refusal is None and not self._script.calls:
            self._cache.add_answer(self._chat, "".join(self._said), self._told)
        self._sink(delta)

    def _begin(self, start: str, max_tokens: int | None) -> None:
        entry, natural = self._entry, self._script.length
        before, _ = self._skip(start, 0, natural)
        written = "".join(piece.text for piece in self.request.continuation)
        self._place, rest = self._skip(written, before, natural)
        self._prompt_tokens += synthetic_text.count_tokens(written)
        left = natural - self._place
        limit = min(
            # The limits of the model are those of the whole answer; that of the request counts new tokens.
            max_tokens or entry.max_output_tokens,
            entry.max_output_tokens - (self._place - before),
            entry.context_length - self._prompt_tokens,
        )
        self._length = max(0, min(left, limit))
        self._told_all = self._length == left
        self._produced = 0
        self._told = 0
        self._said = [start, written]
        self._telling = Telling(self.request.sampling.stop, after=written)
        if rest:
            self._telling.take(rest, [], 0)

    def _refuse(self, capabilities: frozenset[Capability]) -> DomainError | None:
        request, entry = self.request, self._entry
        if self._prompt_tokens >= entry.context_length:
            return context_length_exceeded(
                entry.name, context_length=entry.context_length, prompt_tokens=self._prompt_tokens
            )
        if request.sampling.response_format is not None and Capability.JSON not in capabilities:
            return unsupported_response_format(entry.name, f"{entry.name} cannot hold an answer to a form.")
        if request.tools is not None and Capability.TOOLS not in capabilities:
            return unsupported_capability(entry.name, Capability.TOOLS)
        if request.tools is not None and request.continuation:
            return unsupported_response_format(
                entry.name, "An answer that may call tools is not continued; generate it again from its start."
            )
        return None

    def _write(self, prompt: Sequence[Message], prompt_tokens: int, options: SyntheticOptions) -> DomainError | None:
        request = self.request
        try:
            self._script = write_script(request, prompt, prompt_tokens=prompt_tokens, options=options)
        except DomainError as error:
            return error
        self._usage_cached = self._cache.look_up(self._chat)
        return None

    def _delta(self, told: Told, calls: Sequence[ToolCallDelta]) -> Delta:
        text, ids, count = told
        self._told += count
        self._said.append(text)
        delta = Delta(self.request.generation_id, text, ids, count)
        if calls:
            delta.tool_calls = calls
        if self._logprobs is not None and count:
            total, delta.logprobs = self._logprobs.pop(count)
            if self.request.confidence:
                delta.logprob_sum = total
        return delta

    def _next(self, tokens: int) -> Told:
        told = NOTHING
        logprobs = self._logprobs
        # Not one token after a stop string, so that the count does not depend on the pace.
        while tokens > 0 and not self._telling.stopped:
            text, token_id, piece = self._token(self._place)
            if logprobs is not None:
                logprobs.take(token_id, piece, self._place)
            self._place += 1
            self._produced += 1
            tokens -= 1
            taken = self._telling.take(text, [token_id], 1)
            told = join(told, taken) if told[2] else taken
        return told

    def _next_of_calls(self, tokens: int) -> tuple[Told, list[ToolCallDelta]]:
        parts: list[ToolCallDelta] = []
        index = max((call.index for place, call in self._script.calls.items() if place < self._place), default=0)
        for _ in range(tokens):
            begun = self._script.calls.get(self._place)
            text, token_id, piece = self._at(self._place)
            if self._logprobs is not None:
                self._logprobs.take(token_id, piece, self._place)
            if begun is not None:
                index = begun.index
                parts.append(ToolCallDelta(index, begun.id, begun.name, text))
            elif text:
                parts.append(ToolCallDelta(index, arguments=text))
            self._place += 1
            self._produced += 1
        return ("", [], tokens), parts

    def _at(self, place: int) -> _Token:
        tape = self._script.start
        if place >= len(tape.ids):
            tape = synthetic_text.endless_tape()
            place = (self._offset + place) % len(tape.ids)
        return tape.texts[place], tape.ids[place], tape.pieces[place]

    def _biased(self) -> Callable[[int], _Token]:
        biases = self.request.sampling.logit_bias
        known = synthetic_text.vocabulary()
        forced = [token for token, bias in biases if bias >= _FORCES]
        if forced:
            always = _spelled(forced[0], known.get(forced[0], f" {forced[0]}"))
            return lambda _place: always
        banned = {token for token, bias in biases if bias <= _BANS}
        left = [token for token in known if token not in banned]

        def unbanned(place: int) -> _Token:
            token = self._at(place)
            if token[1] not in banned or not left:
                return token
            other = left[(token[1] + place) % len(left)]
            return _spelled(other, known[other])

        return unbanned

    def _skip(self, text: str, place: int, natural: int) -> tuple[int, str]:
        """The place after a text that begins at `place`, and the rest of a token of which the text has only a part."""
        left = len(text)
        while left > 0 and place < natural:
            token = self._token(place)[0]
            place += 1
            if len(token) > left:
                return place, token[left:]
            left -= len(token)
        return place, ""


def _spelled(token_id: int, text: str) -> _Token:
    return text, token_id, text.encode()
