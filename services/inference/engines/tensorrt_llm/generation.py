"""One answer on its way out of TensorRT-LLM."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from services.inference.engines.engine import engine_failed
from services.inference.engines.telling import NOTHING, Telling, Told, join
from services.inference.engines.tensorrt_llm.probabilities import logprob_of, told_logprob
from services.inference.engines.tensorrt_llm.tool_parsers import Parsed, ToolParser
from services.inference.engines.tensorrt_llm.vocabulary import Detokenizer, Vocabulary
from services.inference.model import (
    Delta,
    End,
    FinishReason,
    GenerationRequest,
    Sink,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from services.runtime.errors import DomainError

_log = logging.getLogger(__name__)

_FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH, "cancelled": FinishReason.CANCELLED}


class Generation:
    """Takes the tokens of an answer and tells its sink. Whatever happens, the sink gets one end.

    The order is: bytes to characters, calls of tools apart from text, stop strings in the text. Each step may hold
    tokens back; a token is told with its text.
    """

    __slots__ = (
        "_calls", "_detokenizer", "_ended", "_forget", "_logprobs", "_output", "_parser", "_sink", "_telling", "_told",
        "_vocabulary", "cached_tokens", "guided", "prompt_tokens", "request", "task",
    )  # fmt: skip

    def __init__(
        self,
        request: GenerationRequest,
        sink: Sink,
        *,
        vocabulary: Vocabulary,
        parser: ToolParser | None,
        forget: Callable[[Generation], None],
    ) -> None:
        self.request = request
        self.task: asyncio.Task[None] | None = None
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.guided = False
        self._sink = sink
        self._forget = forget
        self._vocabulary = vocabulary
        self._detokenizer = Detokenizer(vocabulary, continues=bool(request.continuation))
        self._parser = parser
        self._telling = Telling(request.sampling.stop)
        # Of tokens that are not told yet, in their order.
        self._logprobs: deque[tuple[int, Any]] = deque()
        self._output: Any = None
        self._calls = 0
        self._told = 0
        self._ended = False

    @property
    def has_ended(self) -> bool:
        """Whether its end was said."""
        return self._ended

    @property
    def has_begun(self) -> bool:
        """Whether a token was told."""
        return self._told > 0

    def attach(self, output: Any) -> None:
        """The library works on it now: `output` is what it gives. One that has ended meanwhile is aborted."""
        self._output = output
        if self._ended:
            self._abort()

    def take(self, output: Any) -> None:
        """Take one step. The library yields the same object each time, and changes it with the next step."""
        completion = output.outputs[0]
        ids: list[int] = list(completion.token_ids_diff)
        reason = completion.finish_reason
        given = self._given(completion, len(ids))
        self.cached_tokens = min(int(getattr(output, "cached_tokens", 0) or 0), self.prompt_tokens)
        if reason == "stop" and ids and ids[-1] in self._vocabulary.special:
            # The token that ended the answer is none of it.
            ids.pop()
        told = NOTHING
        for place, token in enumerate(ids):
            if self._ended:
                return
            if given is not None:
                self._logprobs.append((token, given[place]))
            told = self._take_token(token, told)
            if self._telling.stopped:
                self.finish(FinishReason.STOP, told=told)
                return
        if reason is not None:
            self._take_end(reason, told)
        else:
            self._tell(told)

    def fail(self, error: DomainError) -> None:
        """End with an error; without effect after the end."""
        self.finish(FinishReason.ERROR, error=error)

    def finish(self, reason: FinishReason, *, told: Told = NOTHING, error: DomainError | None = None) -> None:
        """End; without effect after the end. What the library still does for it is aborted."""
        if self._ended:
            return
        self._ended = True
        self._forget(self)
        self._abort()
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()
        calls: list[ToolCallDelta] = []
        if reason in (FinishReason.STOP, FinishReason.LENGTH):
            told, calls = self._last(told)
            if self._telling.stopped:
                reason = FinishReason.STOP
        self._calls += len(calls)
        if self._calls and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        self._told += told[2]
        self._send(told, calls, End(reason, Usage(self.prompt_tokens, self._told, self.cached_tokens), error))

    def _take_token(self, token: int, told: Told) -> Told:
        """What may be told after one more token, with what was before. Calls are told at once."""
        text = self._detokenizer.feed(token)
        if self._parser is None:
            return _after(told, self._telling.take(text, [token], 1))
        was_calling = self._parser.called
        parsed = self._parser.feed(text)
        if not self._parser.called:
            return _after(told, self._telling.take(parsed.text, [token], 1))
        # From the first call on ids are no longer those of the text.
        told = _after(told, self._telling.take(parsed.text, [], 1))
        if parsed.calls or not was_calling:
            # Text that waited is text now: what follows is a call.
            told = join(told, self._telling.end())
            if self._telling.stopped:
                return told
            self._telling = Telling(self.request.sampling.stop)
        if not parsed.calls:
            return told
        self._calls += len(parsed.calls)
        self._told += told[2]
        self._send((told[0], [], told[2]), parsed.calls)
        return NOTHING

    def _take_end(self, reason: str, told: Told) -> None:
        finish = _FINISH.get(reason)
        if finish is None or finish is FinishReason.CANCELLED:
            # Nobody here asked for it: the library gave up.
            self._tell(told)
            self.fail(engine_failed(self.request.model, "The engine stopped before the answer was complete."))
        else:
            self.finish(finish, told=told)

    def _last(self, told: Told) -> tuple[Told, list[ToolCallDelta]]:
        parsed = Parsed(self._detokenizer.end())
        if self._parser is not None and not self._telling.stopped:
            parsed = self._parser.feed(parsed.text)
            last = self._parser.end()
            parsed = Parsed(parsed.text + last.text, parsed.calls + last.calls)
        if parsed.text and not self._telling.stopped:
            told = _after(told, self._telling.take(parsed.text, [], 0))
        told = join(told, self._telling.end())
        return ((told[0], [], told[2]) if self._calls or parsed.calls else told), parsed.calls

    def _tell(self, told: Told) -> None:
        if told[2]:
            self._told += told[2]
            self._send(told, ())

    def _send(self, told: Told, calls: Any, end: End | None = None) -> None:
        text, ids, count = told
        logprobs, logprob_sum = self._logprobs_of(count)
        self._sink(
            Delta(
                self.request.generation_id,
                text,
                ids,
                count,
                end,
                logprobs=logprobs,
                tool_calls=calls,
                logprob_sum=logprob_sum,
            )
        )

    def _logprobs_of(self, count: int) -> tuple[tuple[TokenLogprob, ...], float | None]:
        if not count or not self._logprobs:
            return (), None
        given = [self._logprobs.popleft() for _ in range(count)]
        top = self.request.top_logprobs
        logprobs = (
            ()
            if top is None
            else tuple(told_logprob(token, entry, top=top, vocabulary=self._vocabulary) for token, entry in given)
        )
        total = sum(logprob_of(token, entry) for token, entry in given) if self.request.confidence else None
        return logprobs, total

    def _given(self, completion: Any, count: int) -> list[Any] | None:
        """Log-probabilities of new tokens, when they were asked for: at least one each."""
        if self.request.top_logprobs is None and not self.request.confidence:
            return None
        given = list(completion.logprobs_diff or ())
        if len(given) < count:
            raise ValueError(f"{len(given)} log-probabilities came for {count} tokens")
        return given

    def _abort(self) -> None:
        """A result that nobody reads any more goes on being generated, unless it is aborted."""
        output = self._output
        if output is None or output.finished:
            return
        try:
            output.abort()
        # The library may be dying, and the sink must get its end.
        except Exception as error:  # noqa: BLE001
            _log.error("abort failed", extra={"model": self.request.model, "error_type": type(error).__name__})


def _after(told: Told, more: Told) -> Told:
    """What was to be told, and more of it."""
    if not more[2] and not more[0]:
        return told
    return join(told, more) if told[2] else more
