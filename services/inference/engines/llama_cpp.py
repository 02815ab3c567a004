"""Engine `llama_cpp`: GGUF models on this machine, all answers of a model in one batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from services.inference.engines.engine import context_length_exceeded, engine_failed, read_options
from services.inference.engines.llama_prompt import LlamaPrompt, Prompt
from services.inference.engines.llama_server import SAMPLER_OPTIONS, LlamaOptions, LlamaServer
from services.inference.engines.model_file import find_model_file
from services.inference.engines.stop_strings import StopMatcher
from services.inference.model import Delta, End, FinishReason, GenerationRequest, Sink, TokenCounts, Usage
from services.runtime.errors import DomainError, Reason
from services.runtime.model_registry import ModelEntry

_log = logging.getLogger(__name__)

_SEEDS = 2**32 - 1
"""llama.cpp's seeds are 32 bits, and the greatest of them means a random one."""

_FINISH = {"limit": FinishReason.LENGTH, "eos": FinishReason.STOP, "word": FinishReason.STOP}
_TOO_LONG = "exceed_context_size_error"
_FINAL_FIELDS = ["content", "tokens", "stop", "stop_type", "tokens_predicted", "tokens_evaluated", "timings/cache_n"]
"""Of the last event; without this list it repeats the prompt."""


class LlamaCppEngine:
    """A GGUF model through llama.cpp, with continuous batching over the entry's slots.

    Stop strings are matched here and not by llama.cpp, which loses the text that it holds back when an answer ends at
    its token limit. llama.cpp gives no ids of tokens that end in the middle of a character: `token_ids` of such a delta
    is empty.
    """

    def __init__(self, entry: ModelEntry) -> None:
        self._entry = entry
        self._options = read_options(entry, LlamaOptions)
        self._server = LlamaServer(
            model=entry.name,
            file=find_model_file(entry.path, model=entry.name),
            context_length=entry.context_length,
            slots=entry.slots,
            options=self._options,
        )
        self._prompt = LlamaPrompt(model=entry.name, server=self._server)
        self._running: dict[int, _Generation] = {}

    async def start(self) -> None:
        """Load the model."""
        await self._server.start()
        await self._prompt.measure()

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        """Begin a generation."""
        generation = _Generation(request, sink, forget=self._forget)
        self._running[request.key] = generation
        generation.task = asyncio.get_running_loop().create_task(self._run(generation))

    def cancel(self, key: int) -> None:
        """End a generation: the connection is closed, and llama.cpp frees the slot at its next step."""
        generation = self._running.get(key)
        if generation is not None:
            generation.finish(FinishReason.CANCELLED)

    async def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        """Count with the model's own tokenizer."""
        return await self._prompt.count(texts)

    async def check(self) -> None:
        """Ask the tokenizer for something small."""
        await self._prompt.count(("x",))

    async def close(self) -> None:
        """Cancel all generations and unload the model."""
        for key in list(self._running):
            self.cancel(key)
        await self._server.close()

    async def _run(self, generation: _Generation) -> None:
        try:
            prompt = await self._prompt.build(generation.request.messages)
            reply = await self._server.stream("/completion", self._body(generation, prompt), generation.on_event)
        except DomainError as error:
            generation.fail(error)
            return
        except Exception as error:  # noqa: BLE001 - a generation that nobody ends would hold its slot for ever
            _log.error("generation failed", extra={"model": self._entry.name, "error_type": type(error).__name__})
            generation.fail(engine_failed(self._entry.name, "The engine failed."))
            return
        if generation.has_ended:
            return
        if not reply.ok:
            generation.fail(self._refusal(reply.body))
        generation.fail(engine_failed(self._entry.name, "The engine stopped before the answer was complete."))

    def _body(self, generation: _Generation, prompt: Prompt) -> dict[str, Any]:
        sampling = generation.request.sampling
        body: dict[str, Any] = {
            "prompt": prompt,
            "n_predict": min(sampling.max_tokens or self._entry.max_output_tokens, self._entry.max_output_tokens),
            "stream": True,
            "return_tokens": True,
            "return_progress": True,
            "cache_prompt": True,
            "response_fields": _FINAL_FIELDS,
        }
        body |= {name: value for name in SAMPLER_OPTIONS if (value := getattr(self._options, name)) is not None}
        if sampling.temperature is not None:
            body["temperature"] = sampling.temperature
        if sampling.top_p is not None:
            body["top_p"] = sampling.top_p
        if sampling.seed is not None:
            body["seed"] = sampling.seed % _SEEDS
        return body

    def _refusal(self, body: Any) -> DomainError:
        error = body.get("error", {}) if isinstance(body, dict) else {}
        if error.get("type") == _TOO_LONG:
            return context_length_exceeded(
                self._entry.name,
                context_length=self._entry.context_length,
                prompt_tokens=int(error.get("n_prompt_tokens", 0)),
            )
        # The text of the error may quote the prompt.
        _log.error("llama.cpp refused a prompt", extra={"model": self._entry.name, "error_type": error.get("type")})
        if error.get("code") == 400:
            return DomainError(Reason.INVALID_FIELD, f"{self._entry.name} cannot process this prompt.")
        return engine_failed(self._entry.name, "The engine failed.")

    def _forget(self, generation: _Generation) -> None:
        self._running.pop(generation.request.key, None)


class _Generation:
    """One answer on its way out of llama.cpp."""

    __slots__ = ("_cached", "_ended", "_forget", "_matcher", "_predicted", "_prompt_tokens", "_sink", "request", "task")

    def __init__(self, request: GenerationRequest, sink: Sink, *, forget: Any) -> None:
        self.request = request
        self.task: asyncio.Task[None] | None = None
        self._sink = sink
        self._forget = forget
        self._matcher = StopMatcher(request.sampling.stop)
        self._predicted = 0
        self._prompt_tokens = 0
        self._cached = 0
        self._ended = False

    @property
    def has_ended(self) -> bool:
        """Whether its end was said."""
        return self._ended

    def on_event(self, event: dict[str, Any]) -> None:
        """Take one event of llama.cpp's stream."""
        if self._ended:
            return
        if "error" in event:
            self.fail(engine_failed(self.request.model, "The engine stopped before the answer was complete."))
            return
        self._prompt_tokens = event.get("tokens_evaluated", self._prompt_tokens)
        progress = event.get("prompt_progress")
        if progress is not None:
            # Its token list is not one of tokens of the answer.
            self._cached = progress.get("cache", self._cached)
            return
        count = event["tokens_predicted"] - self._predicted
        self._predicted += count
        text = self._matcher.feed(event["content"])
        ids: list[int] = event["tokens"]
        if len(ids) != count:
            ids = []
        if self._matcher.stopped:
            self.finish(FinishReason.STOP, text=text, token_ids=ids, token_count=count)
        elif event["stop"]:
            self._cached = event.get("timings/cache_n", self._cached)
            text += self._matcher.flush()
            reason = FinishReason.STOP if self._matcher.stopped else _FINISH.get(event["stop_type"])
            if reason is None:
                self.fail(engine_failed(self.request.model, "The engine stopped before the answer was complete."))
            else:
                self.finish(reason, text=text, token_ids=ids, token_count=count)
        elif count:
            self._sink(Delta(self.request.generation_id, text, ids, count))

    def fail(self, error: DomainError) -> None:
        """End with an error; without effect after the end."""
        self.finish(FinishReason.ERROR, error=error)

    def finish(
        self,
        reason: FinishReason,
        *,
        text: str = "",
        token_ids: Sequence[int] = (),
        token_count: int = 0,
        error: DomainError | None = None,
    ) -> None:
        """End; without effect after the end. The connection closes with the task."""
        if self._ended:
            return
        self._ended = True
        self._forget(self)
        if self.task is not None and reason in (FinishReason.STOP, FinishReason.CANCELLED):
            self.task.cancel()
        usage = Usage(self._prompt_tokens, self._predicted, self._cached)
        self._sink(Delta(self.request.generation_id, text, list(token_ids), token_count, End(reason, usage, error)))
