"""What comes back: a result that yields itself, and iterations of statistics that can be read once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from .errors import RequestError
from .sampling_params import SamplingParams

_NO_LOOP = "The asyncio event loop was not present during initialization, so async operations are not available."


@dataclass(slots=True)
class Logprob:
    logprob: float
    rank: int | None = None


@dataclass(slots=True)
class CompletionOutput:
    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    cumulative_logprob: float | None = None
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    prompt_logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    generation_logits: Any = None
    _last_text_len: int = field(default=0, init=False, repr=False)
    _last_token_ids_len: int = field(default=0, init=False, repr=False)
    _last_logprobs_len: int = field(default=0, init=False, repr=False)

    @property
    def length(self) -> int:
        return len(self.token_ids)

    @property
    def text_diff(self) -> str:
        return self.text[self._last_text_len :]

    @property
    def token_ids_diff(self) -> list[int]:
        return self.token_ids[self._last_token_ids_len :]

    @property
    def logprobs_diff(self) -> list[dict[int, Logprob]]:
        return self.logprobs[self._last_logprobs_len :]


@dataclass(slots=True)
class Response:
    """One step of one request, from the runtime."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    finish_reason: str | None = None
    ends_with: int = 0
    """Tokens at the end that are a stop word."""
    cached_tokens: int = 0
    error: Exception | None = None


class _LoopQueue:
    """Filled from another thread, read on the loop that it was made on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Any] = asyncio.Queue()

    def put(self, item: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)
        except RuntimeError:
            # The loop is closed.
            return

    async def get(self, timeout: float | None = None) -> Any:
        return await asyncio.wait_for(self._queue.get(), timeout)


def queue_of_this_loop() -> _LoopQueue | None:
    try:
        return _LoopQueue()
    except RuntimeError:
        return None


class RequestOutput:
    """Awaitable, and an iterator that yields itself."""

    request_id: int
    prompt: str | None
    prompt_token_ids: list[int]
    context_logits: Any
    cached_tokens: int
    sampling_params: SamplingParams
    aqueue: _LoopQueue | None
    _outputs: list[CompletionOutput]
    _done: bool
    _aborted: bool
    _abort: Callable[[int], None]
    _on_error: Callable[[Exception], None]
    _decode: Callable[[list[int]], str]

    def __init__(self) -> None:
        raise RuntimeError("RequestOutput is not meant to be made by its users")

    @classmethod
    def _new(cls, **fields: Any) -> RequestOutput:
        output = cls.__new__(cls)
        output.__dict__.update(fields)
        output.prompt = None
        output.context_logits = None
        output.cached_tokens = 0
        output._outputs = [CompletionOutput(0)]
        output._done = False
        output._aborted = False
        output.aqueue = queue_of_this_loop()
        return output

    @property
    def outputs(self) -> list[CompletionOutput]:
        return self._outputs

    @property
    def finished(self) -> bool:
        return self._done

    def abort(self) -> None:
        self._abort(self.request_id)
        self._aborted = True

    def aborted(self) -> bool:
        return self._aborted

    def result(self, timeout: float | None = None) -> RequestOutput:
        raise NotImplementedError("the double is for asynchronous use")

    async def aresult(self) -> RequestOutput:
        while not self._done:
            await self._step()
        return self

    def __await__(self) -> Generator[Any, None, RequestOutput]:
        return self.aresult().__await__()

    def __aiter__(self) -> RequestOutput:
        return self

    async def __anext__(self) -> RequestOutput:
        if self._done:
            raise StopAsyncIteration
        await self._step()
        return self

    async def _step(self) -> None:
        assert self.aqueue is not None, _NO_LOOP
        response: Response = await self.aqueue.get()
        if response.error is not None:
            if isinstance(response.error, RequestError):
                self._done = True
            else:
                self._on_error(response.error)
            raise response.error
        self._take(response)

    def _take(self, response: Response) -> None:
        output = self._outputs[0]
        output._last_token_ids_len = len(output.token_ids)
        output.token_ids.extend(response.token_ids)
        output._last_logprobs_len = len(output.logprobs)
        output.logprobs.extend(response.logprobs)
        self.cached_tokens = response.cached_tokens
        output.finish_reason = response.finish_reason
        self._done = response.finish_reason is not None
        if response.ends_with:
            output.token_ids = output.token_ids[: -response.ends_with]
        if self.sampling_params.detokenize:
            self._take_text(output)

    def _take_text(self, output: CompletionOutput) -> None:
        # A stop string is seen when it is complete: by then its start was given out.
        output._last_text_len = len(output.text)
        output.text = self._decode(output.token_ids)
        for stop in self.sampling_params.stops:
            if stop in output.text:
                output.text = output.text[: output.text.find(stop)]
                output.finish_reason = "stop"
                output.stop_reason = stop
                self.abort()
                self._done = True
                return


class IterationResult:
    """Statistics or events: one object for all who ask. Reading takes them away; a pause of `timeout` ends it."""

    def __init__(self) -> None:
        self._done = False
        self._timeout: float | None = 2
        self.aqueue = queue_of_this_loop()

    def set_timeout(self, timeout: float | None) -> None:
        self._timeout = timeout

    def mark_undone(self) -> None:
        """New prompts were submitted."""
        self._done = False

    def put(self, entry: dict[str, Any]) -> None:
        if self.aqueue is not None:
            self.aqueue.put(json.dumps(entry))

    def __aiter__(self) -> IterationResult:
        return self

    async def __anext__(self) -> dict[str, Any]:
        if self._done:
            raise StopAsyncIteration
        assert self.aqueue is not None, _NO_LOOP
        try:
            entry: dict[str, Any] = json.loads(await self.aqueue.get(timeout=self._timeout))
        except TimeoutError:
            self._done = True
            raise StopAsyncIteration from None
        return entry


class EmptyIterable:
    """What there is before the first request."""

    def __aiter__(self) -> EmptyIterable:
        return self

    async def __anext__(self) -> dict[str, Any]:
        raise StopAsyncIteration
