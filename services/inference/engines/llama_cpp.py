"""Engine `llama_cpp`: GGUF models on this machine, all answers of a model in one batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from services.inference.engines.engine import context_length_exceeded, engine_failed, read_options
from services.inference.engines.llama_format import LlamaFormat, refused_format
from services.inference.engines.llama_prompt import LlamaPrompt, Prompt
from services.inference.engines.llama_server import SAMPLER_OPTIONS, LlamaOptions, LlamaServer
from services.inference.engines.model_file import find_model_file
from services.inference.engines.telling import NOTHING, Telling, Told, join
from services.inference.model import (
    Delta,
    End,
    FinishReason,
    GenerationRequest,
    ResponseForm,
    Sink,
    TokenCounts,
    Usage,
)
from services.runtime.errors import DomainError, Reason
from services.runtime.model_registry import ModelEntry

_log = logging.getLogger(__name__)

_SEEDS = 2**32 - 1
"""llama.cpp's seeds are 32 bits, and the greatest of them means a random one."""

_FINISH = {"limit": FinishReason.LENGTH, "eos": FinishReason.STOP, "word": FinishReason.STOP}
_BAD_REQUEST = 400
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
        self._format = LlamaFormat(
            model=entry.name, server=self._server, prompt=self._prompt, grammars=self._options.grammars
        )
        self._running: dict[int, _Generation] = {}

    async def start(self) -> None:
        """Load the model."""
        await self._server.start()
        await self._prompt.measure()
        await self._format.measure()

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        """Begin a generation."""
        generation = _Generation(request, sink, forget=self._forget, form=self._format)
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
            request = generation.request
            prompt = await self._prompt.build(request.messages)
            written = await self._prompt.tokens_of(request.continuation)
            room = self._entry.max_output_tokens - len(written)
            if room < 1:
                generation.finish(FinishReason.LENGTH)
                return
            if written:
                prompt = [*([prompt] if isinstance(prompt, str) else prompt), *written]
            body = self._body(request, prompt, room=room)
            reply = await self._server.stream("/completion", body, generation.on_event)
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
            self._refuse(generation, reply.body, written=len(written))
        generation.fail(engine_failed(self._entry.name, "The engine stopped before the answer was complete."))

    def _body(self, request: GenerationRequest, prompt: Prompt, *, room: int) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "prompt": prompt,
            "n_predict": min(sampling.max_tokens or room, room),
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
        if sampling.response_format is not None:
            body |= self._format.options(sampling.response_format)
        return body

    def _refuse(self, generation: _Generation, body: Any, *, written: int) -> None:
        error = body.get("error", {}) if isinstance(body, dict) else {}
        if error.get("type") == _TOO_LONG:
            prompt_tokens = int(error.get("n_prompt_tokens", 0))
            if prompt_tokens - written < self._entry.context_length:
                # The prompt had room; the answer has filled it.
                generation.finish(FinishReason.LENGTH)
                return
            generation.fail(
                context_length_exceeded(
                    self._entry.name, context_length=self._entry.context_length, prompt_tokens=prompt_tokens
                )
            )
            return
        # The text of the error may quote the prompt.
        _log.error("llama.cpp refused a prompt", extra={"model": self._entry.name, "error_type": error.get("type")})
        if error.get("code") != _BAD_REQUEST:
            generation.fail(engine_failed(self._entry.name, "The engine failed."))
        elif generation.request.sampling.response_format is not None:
            generation.fail(refused_format())
        else:
            generation.fail(DomainError(Reason.INVALID_FIELD, f"{self._entry.name} cannot process this prompt."))

    def _forget(self, generation: _Generation) -> None:
        self._running.pop(generation.request.key, None)


class _Generation:
    """One answer on its way out of llama.cpp."""

    __slots__ = (
        "_cached", "_ended", "_forget", "_form", "_predicted", "_prompt_tokens", "_sink", "_telling", "_told",
        "request", "task",
    )  # fmt: skip

    def __init__(self, request: GenerationRequest, sink: Sink, *, forget: Any, form: LlamaFormat) -> None:
        self.request = request
        self.task: asyncio.Task[None] | None = None
        self._sink = sink
        self._forget = forget
        asked = request.sampling.response_format
        # A grammar is refused at once when it is none, and may allow the guard.
        self._form = form if asked is not None and asked.form is not ResponseForm.GRAMMAR else None
        self._telling = Telling(request.sampling.stop)
        self._predicted = 0
        self._told = 0
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
        ids: list[int] = event["tokens"]
        if self._form is not None and self._form.is_lost(ids, count):
            self.fail(refused_format())
            return
        text = event["content"]
        told = self._telling.take(text, ids if len(ids) == count else [], count) if count or text else NOTHING
        if self._telling.stopped:
            self.finish(FinishReason.STOP, told=told)
        elif event["stop"]:
            self._cached = event.get("timings/cache_n", self._cached)
            reason = _FINISH.get(event["stop_type"])
            if reason is None:
                self.fail(engine_failed(self.request.model, "The engine stopped before the answer was complete."))
            else:
                self.finish(reason, told=told)
        elif told[2]:
            self._told += told[2]
            self._sink(Delta(self.request.generation_id, *told))

    def fail(self, error: DomainError) -> None:
        """End with an error; without effect after the end."""
        self.finish(FinishReason.ERROR, error=error)

    def finish(self, reason: FinishReason, *, told: Told = NOTHING, error: DomainError | None = None) -> None:
        """End; without effect after the end. The connection closes with the task."""
        if self._ended:
            return
        self._ended = True
        self._forget(self)
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()
        if reason in (FinishReason.STOP, FinishReason.LENGTH):
            told = join(told, self._telling.end())
            if self._telling.stopped:
                reason = FinishReason.STOP
        text, ids, count = told
        self._told += count
        usage = Usage(self._prompt_tokens, self._told, self._cached)
        self._sink(Delta(self.request.generation_id, text, ids, count, End(reason, usage, error)))
