"""One answer on its way out of llama.cpp."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from services.inference.engines.engine import engine_failed
from services.inference.engines.llama_format import LlamaFormat, refused_format
from services.inference.engines.llama_tools import CallReader
from services.inference.engines.logprobs import Logprobs
from services.inference.engines.telling import NOTHING, Telling, Told, join
from services.inference.engines.tool_calls import refused_parameters
from services.inference.model import Delta, End, FinishReason, GenerationRequest, Sink, ToolCallDelta, Usage
from services.runtime.errors import DomainError

_FINISH = {"limit": FinishReason.LENGTH, "eos": FinishReason.STOP, "word": FinishReason.STOP}
_CHAT_FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH, "tool_calls": FinishReason.TOOL_CALLS}


class LlamaGeneration:
    """An answer, and its sink."""

    __slots__ = (
        "_cached", "_calls", "_chat_finish", "_ended", "_forget", "_logprobs", "_predicted", "_prompt_tokens",
        "_reader", "_sink", "_telling", "_told", "form", "request", "task", "written",
    )  # fmt: skip

    def __init__(self, request: GenerationRequest, sink: Sink, *, forget: Callable[[LlamaGeneration], None]) -> None:
        self.request = request
        self.task: asyncio.Task[None] | None = None
        self.form: LlamaFormat | None = None
        """What the answer is held to by a guard, if anything."""
        self.written = 0
        """Tokens of it that were written before."""
        self._sink = sink
        self._forget = forget
        self._telling = Telling(request.sampling.stop)
        self._reader = CallReader(request.tools) if request.tools is not None else None
        asked = request.top_logprobs is not None or request.confidence
        self._logprobs = Logprobs(request) if asked else None
        self._calls = 0
        self._predicted = 0
        self._told = 0
        self._prompt_tokens = 0
        self._cached = 0
        self._chat_finish: FinishReason | None = None
        self._ended = False

    @property
    def has_ended(self) -> bool:
        """Whether its end was said."""
        return self._ended

    @property
    def wants_logprobs(self) -> bool:
        """Whether somebody asked how likely its tokens are."""
        return self._logprobs is not None

    @property
    def tokens(self) -> int:
        """What it holds of the cache."""
        return self._prompt_tokens + self._predicted

    @property
    def usage(self) -> Usage:
        """What it took so far."""
        return Usage(self._prompt_tokens, self._told, self._cached)

    def on_event(self, event: dict[str, Any]) -> None:
        """Take one event of /completion."""
        if self._ended:
            return
        if "error" in event:
            self._stopped_early()
            return
        self._prompt_tokens = event.get("tokens_evaluated", self._prompt_tokens)
        progress = event.get("prompt_progress")
        if progress is not None:
            # Its token list is not one of tokens of the answer.
            self._cached = progress.get("cache", self._cached)
            return
        count = event["tokens_predicted"] - self._predicted
        self._predicted += count
        ids: list[int] = event["tokens"]
        if self.form is not None and self.form.is_lost(ids, count):
            self.fail(self._lost())
            return
        if self._logprobs is not None and count:
            self._logprobs.take(event.get("completion_probabilities", [])[:count], count)
        told, calls = self._read(event["content"], ids if len(ids) == count else [], count)
        if self._telling.stopped:
            self.finish(FinishReason.STOP, told=told)
        elif event["stop"]:
            self._cached = event.get("timings/cache_n", self._cached)
            self._end(_FINISH.get(event["stop_type"]), told, calls)
        elif self._has_made_its_call():
            self.finish(FinishReason.TOOL_CALLS, told=told, calls=calls)
        else:
            self._tell(told, calls)

    def on_chunk(self, chunk: dict[str, Any]) -> None:
        """Take one event of /v1/chat/completions, where llama.cpp has told calls from text."""
        if self._ended:
            return
        if "error" in chunk:
            self._stopped_early()
            return
        # llama.cpp gives no log-probabilities beside tools.
        self._logprobs = None
        progress = chunk.get("prompt_progress")
        if progress is not None:
            self._prompt_tokens, self._cached = progress["total"], progress["cache"]
        count = 0
        if "timings" in chunk:
            count = chunk["timings"]["predicted_n"] - self._predicted
            self._predicted += count
        text, calls = "", []
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            calls += [self._call(call) for call in choice["delta"].get("tool_calls") or ()]
            self._chat_finish = _CHAT_FINISH.get(choice["finish_reason"], self._chat_finish)
        told = self._telling.take(text, [], count) if count or text else NOTHING
        if calls:
            # Tokens of calls give no text, and are told with what they gave.
            told = join(told, self._telling.end())
        usage = chunk.get("usage")
        if self._telling.stopped:
            self.finish(FinishReason.STOP, told=told)
        elif usage is not None:
            self._prompt_tokens = usage["prompt_tokens"]
            self._end(self._chat_finish, told, calls)
        else:
            self._tell(told, calls)

    def fail(self, error: DomainError) -> None:
        """End with an error; without effect after the end."""
        self.finish(FinishReason.ERROR, error=error)

    def finish(
        self,
        reason: FinishReason,
        *,
        told: Told = NOTHING,
        calls: Sequence[ToolCallDelta] = (),
        error: DomainError | None = None,
    ) -> None:
        """End; without effect after the end. The connection closes with the task."""
        if self._ended:
            return
        self._ended = True
        self._forget(self)
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()
        if reason in (FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS):
            if self._reader is not None and (rest := self._reader.flush()):
                told = join(told, self._telling.take(rest, [], 0))
            told = join(told, self._telling.end())
            if self._telling.stopped:
                reason = FinishReason.STOP
        delta = self._delta(told, calls)
        delta.end = End(reason, self.usage, error)
        self._sink(delta)

    def _read(self, text: str, ids: list[int], count: int) -> tuple[Told, list[ToolCallDelta]]:
        reader = self._reader
        if reader is None:
            return (self._telling.take(text, ids, count) if count or text else NOTHING), []
        was_text = reader.in_text
        text, calls = reader.feed(text)
        told = self._telling.take(text, ids if was_text else [], count) if count or text else NOTHING
        if reader.calls:
            # Tokens of calls give no text, and are told with what they gave.
            told = join(told, self._telling.end())
        return told, calls

    def _has_made_its_call(self) -> bool:
        tools = self.request.tools
        return tools is not None and tools.single_call and self._reader is not None and self._reader.complete > 0

    def _call(self, call: dict[str, Any]) -> ToolCallDelta:
        function = call.get("function", {})
        first = call["index"] >= self._calls
        self._calls = max(self._calls, call["index"] + 1)
        arguments = function.get("arguments") or ""
        if first:
            return ToolCallDelta(call["index"], call.get("id") or "", function.get("name") or "", arguments)
        return ToolCallDelta(call["index"], arguments=arguments)

    def _end(self, reason: FinishReason | None, told: Told, calls: Sequence[ToolCallDelta]) -> None:
        if reason is None:
            self._stopped_early()
            return
        if reason is FinishReason.STOP and self._reader is not None and self._reader.calls:
            reason = FinishReason.TOOL_CALLS
        self.finish(reason, told=told, calls=calls)

    def _tell(self, told: Told, calls: Sequence[ToolCallDelta]) -> None:
        if told[2] or calls:
            self._sink(self._delta(told, calls))

    def _delta(self, told: Told, calls: Sequence[ToolCallDelta]) -> Delta:
        text, ids, count = told
        self._told += count
        delta = Delta(self.request.generation_id, text, ids, count, tool_calls=calls)
        if self._logprobs is not None:
            self._logprobs.complete(delta)
        return delta

    def _lost(self) -> DomainError:
        return refused_format() if self._reader is None else refused_parameters()

    def _stopped_early(self) -> None:
        self.fail(engine_failed(self.request.model, "The engine stopped before the answer was complete."))
