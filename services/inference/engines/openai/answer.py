"""One answer on its way from the server."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from typing import Any

from services.inference.engines.engine import engine_failed
from services.inference.engines.logprobs import Logprobs
from services.inference.engines.openai.refusals import Refusal
from services.inference.engines.telling import NOTHING, Telling, Told, join
from services.inference.model import Delta, End, FinishReason, GenerationRequest, Sink, ToolCallDelta, Usage
from services.runtime.errors import DomainError, Reason

_FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}
_WITHHELD = "content_filter"
_LAST_EVENT = b"[DONE]"


class OpenAIAnswer:
    """Fed with the events of a stream, tells a sink.

    All that is read before the loop turns is one delta. A token is counted when the server says so: in its chunk, or at
    the end, where those that no chunk spoke of are told with the last delta. A server that gives no counts in its
    chunks is taken to put one token in each; what it says at the end sets that right. So the deltas always add up to
    `completion_tokens`.
    """

    __slots__ = (
        "_cached", "_calls", "_counted", "_ended", "_estimated_prompt", "_events_end", "_finish", "_flushing",
        "_forget", "_logprobs", "_new_calls", "_prompt_tokens", "_sink", "_telling", "_told",
        "_told_now", "_usage_came", "limit", "request", "task",
    )  # fmt: skip

    def __init__(
        self,
        request: GenerationRequest,
        sink: Sink,
        *,
        forget: Callable[[OpenAIAnswer], None],
        logprobs: bool,
        estimated_prompt: int,
    ) -> None:
        self.request = request
        self.task: asyncio.Task[None] | None = None
        self.limit: int | None = None
        """Tokens after which it is ended here, where the server has not been given a limit."""
        self._sink = sink
        self._forget = forget
        self._telling = Telling(request.sampling.stop)
        self._logprobs = Logprobs(request) if logprobs else None
        self._estimated_prompt = estimated_prompt
        self._calls: dict[int, int] = {}
        self._counted = 0
        self._told = 0
        self._prompt_tokens = 0
        self._cached = 0
        self._told_now: Told = NOTHING
        self._new_calls: list[ToolCallDelta] = []
        self._flushing: asyncio.Handle | None = None
        self._finish: str | None = None
        self._usage_came = False
        self._events_end = False
        self._ended = False

    @property
    def has_ended(self) -> bool:
        """Whether its end was said."""
        return self._ended

    def take(self, events: list[bytes]) -> None:
        """Take events that arrived."""
        for event in events:
            if self._ended:
                return
            try:
                refusal = self._read(event)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                self.fail(engine_failed(self.request.model, "The model's server sent what is no part of an answer."))
                return
            if refusal is not None:
                self.fail(self._failed_midway(refusal))
                return
            self._go_on()

    def end(self) -> None:
        """The server has closed the stream."""
        self._events_end = True
        if not self._ended:
            self._go_on()

    def fail(self, error: DomainError) -> None:
        """End with an error; without effect after the end."""
        self.finish(FinishReason.ERROR, error=error)

    def finish(self, reason: FinishReason, *, error: DomainError | None = None) -> None:
        """End; without effect after the end. The connection closes with the task."""
        if self._ended:
            return
        self._ended = True
        self._forget(self)
        if self._flushing is not None:
            self._flushing.cancel()
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()
        if reason in (FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS):
            self._told_now = join(self._told_now, self._telling.end())
            if self._telling.stopped:
                reason = FinishReason.STOP
        delta = self._delta()
        delta.end = End(reason, self._usage(), error)
        self._sink(delta)

    def _go_on(self) -> None:
        if self._telling.stopped:
            self.finish(FinishReason.STOP)
        elif self._events_end or (self._finish is not None and self._usage_came):
            self._finish_as_said()
        elif self.limit is not None and self._counted >= self.limit:
            self.finish(FinishReason.LENGTH)
        elif self._flushing is None and (self._told_now[2] or self._new_calls):
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _finish_as_said(self) -> None:
        reason = _FINISH.get(self._finish or "")
        if self._finish == _WITHHELD:
            self.fail(
                DomainError(
                    Reason.CONTENT_BLOCKED,
                    "The model's server withheld the answer.",
                    metadata={"category": _WITHHELD, "policy_version": ""},
                )
            )
        elif reason is None:
            self.fail(engine_failed(self.request.model, "The engine stopped before the answer was complete."))
        else:
            # Servers call it a stop when the function that must be called was named.
            self.finish(FinishReason.TOOL_CALLS if self._calls and reason is FinishReason.STOP else reason)

    def _read(self, event: bytes) -> Refusal | None:
        if event == _LAST_EVENT:
            self._events_end = True
            return None
        chunk: dict[str, Any] = json.loads(event)
        if "error" in chunk:
            code = chunk["error"].get("code") if isinstance(chunk["error"], dict) else None
            return Refusal(code if isinstance(code, int) else 500, {}, chunk)
        counted = self._read_counts(chunk)
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) == 0:
                counted = self._read_choice(choice, counted)
        self._take("", 0 if counted is None else counted - self._counted, [])
        return None

    def _read_counts(self, chunk: dict[str, Any]) -> int | None:
        """Tokens of the answer so far, where the chunk says so."""
        usage, timings = chunk.get("usage"), chunk.get("timings")
        if usage is not None:
            self._prompt_tokens = int(usage["prompt_tokens"])
            self._cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or self._cached)
            # With usage in every chunk the one without a choice is the last.
            self._usage_came = not chunk.get("choices")
            return int(usage.get("completion_tokens") or 0)
        if timings is not None:
            self._cached = int(timings.get("cache_n") or 0)
            self._prompt_tokens = int(timings["prompt_n"]) + self._cached
            return int(timings["predicted_n"])
        return None

    def _read_choice(self, choice: dict[str, Any], counted: int | None) -> int | None:
        delta = choice.get("delta") or {}
        text = (delta.get("content") or "") + (delta.get("refusal") or "")
        calls = delta.get("tool_calls") or ()
        said = (choice.get("logprobs") or {}).get("content") or []
        # What a model thinks before it answers is not shown, and its tokens count.
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        self._finish = choice.get("finish_reason") or self._finish
        guessed = len(said) or (1 if text or thought or calls else 0)
        self._take(text, guessed if counted is None else counted - self._counted, said)
        self._new_calls += [call for each in calls if (call := self._call(each)) is not None]
        if self._new_calls:
            # Tokens of calls give no text, and are told with what they gave.
            self._told_now = join(self._told_now, self._telling.end())
        return counted

    def _take(self, text: str, count: int, said: list[dict[str, Any]]) -> None:
        count = max(count, len(said), 0)
        self._counted += count
        if self._logprobs is not None and count:
            self._logprobs.take(said, count)
        if text or count:
            self._told_now = join(self._told_now, self._telling.take(text, [], count))

    def _call(self, said: dict[str, Any]) -> ToolCallDelta | None:
        function = said.get("function") or {}
        arguments = function.get("arguments") or ""
        place = said.get("index", 0)
        index = self._calls.get(place)
        if index is not None:
            return ToolCallDelta(index, arguments=arguments) if arguments and not self._too_many(index) else None
        index = self._calls[place] = len(self._calls)
        if self._too_many(index):
            return None
        return ToolCallDelta(index, said.get("id") or f"call_{secrets.token_hex(12)}", function["name"], arguments)

    def _too_many(self, index: int) -> bool:
        # Some servers do not know parallel_tool_calls.
        return index > 0 and self.request.tools is not None and self.request.tools.single_call

    def _flush(self) -> None:
        self._flushing = None
        self._sink(self._delta())

    def _delta(self) -> Delta:
        (text, ids, count), self._told_now = self._told_now, NOTHING
        self._told += count
        delta = Delta(self.request.generation_id, text, ids, count, tool_calls=self._new_calls)
        self._new_calls = []
        if self._logprobs is not None:
            self._logprobs.complete(delta)
        return delta

    def _usage(self) -> Usage:
        prompt = self._prompt_tokens or (self._estimated_prompt if self._told else 0)
        return Usage(prompt, self._told, min(self._cached, prompt))

    def _failed_midway(self, refusal: Refusal) -> DomainError:
        if refusal.is_about_length and not self._told:
            return DomainError(
                Reason.CONTEXT_LENGTH_EXCEEDED,
                f"The prompt does not fit into the context of {self.request.model}.",
                metadata={"model": self.request.model, "prompt_tokens": str(refusal.prompt_tokens)},
            )
        return engine_failed(self.request.model, "The engine stopped before the answer was complete.")
