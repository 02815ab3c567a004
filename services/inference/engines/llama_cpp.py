"""Engine `llama_cpp`: GGUF models on this machine, all answers of a model in one batch."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

from services.inference.engines.engine import (
    check_biases,
    context_length_exceeded,
    engine_failed,
    read_options,
    unsupported_capability,
    unsupported_response_format,
)
from services.inference.engines.http_exchange import Reply
from services.inference.engines.llama_embedding import LlamaEmbedding
from services.inference.engines.llama_format import LlamaFormat, refused_format
from services.inference.engines.llama_generation import LlamaGeneration
from services.inference.engines.llama_prompt import LlamaPrompt
from services.inference.engines.llama_server import SAMPLER_OPTIONS, LlamaOptions, LlamaServer
from services.inference.engines.llama_tools import call_schema
from services.inference.engines.tool_calls import must_call, refused_parameters
from services.inference.model import (
    Capability,
    Embeddings,
    EngineStats,
    FinishReason,
    GenerationRequest,
    ResponseForm,
    ResponseFormat,
    Sink,
    TokenCounts,
    ToolOptions,
    Usage,
)
from services.runtime.errors import DomainError, FieldViolation, Reason
from services.runtime.model_file import find_model_file
from services.runtime.model_registry import ModelEntry

_log = logging.getLogger(__name__)

_SEEDS = 2**32 - 1
"""llama.cpp's seeds are 32 bits, and the greatest of them means a random one."""

_BAD_REQUEST = 400
_TOO_LONG = "exceed_context_size_error"
_FINAL_FIELDS = ["content", "tokens", "stop", "stop_type", "tokens_predicted", "tokens_evaluated", "timings/cache_n"]
"""Of the last event; without this list it repeats the prompt."""

_ALWAYS = frozenset({Capability.CHAT, Capability.LOGPROBS, Capability.LOGIT_BIAS, Capability.PENALTIES})
_WITH_GUARD = frozenset({Capability.JSON, Capability.TOOLS})
_RECENT = 64
"""Generations that the hit rate is of."""


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
        self._embedding = LlamaEmbedding(
            model=entry.name, server=self._server, prompt=self._prompt, context_length=entry.context_length
        )
        self._running: dict[int, LlamaGeneration] = {}
        self._vocabulary_size = 0
        self._recent: deque[Usage] = deque(maxlen=_RECENT)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What llama.cpp can with this model: it holds answers to forms only where a guard was found."""
        if self._options.embeddings:
            return frozenset({Capability.EMBEDDINGS})
        return _ALWAYS | _WITH_GUARD if self._format.holds_schemas else _ALWAYS

    async def start(self) -> None:
        """Load the model."""
        await self._server.start()
        if self._options.embeddings:
            await self._embedding.measure()
            return
        await self._prompt.measure()
        await self._format.measure()
        self._vocabulary_size = await self._server.vocabulary_size()

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        """Begin a generation."""
        generation = LlamaGeneration(request, sink, forget=self._forget)
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

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors, where the model is one for them."""
        if not self._options.embeddings:
            raise unsupported_capability(self._entry.name, Capability.EMBEDDINGS)
        return await self._embedding.embed(texts)

    def stats(self) -> EngineStats:
        """What the running answers hold of the cache, and what recent ones found there."""
        held = sum(generation.tokens for generation in self._running.values())
        prompts = sum(usage.prompt_tokens for usage in self._recent)
        cached = sum(usage.cached_tokens for usage in self._recent)
        return EngineStats(
            kv_cache_usage=min(1.0, held / (self._entry.context_length * self._entry.slots)),
            kv_cache_hit_rate=cached / prompts if prompts else 0.0,
        )

    async def check(self) -> None:
        """Ask the tokenizer for something small."""
        await self._prompt.count(("x",))

    async def close(self) -> None:
        """Cancel all generations and unload the model."""
        for key in list(self._running):
            self.cancel(key)
        await self._server.close()

    async def _run(self, generation: LlamaGeneration) -> None:
        tools = generation.request.tools
        try:
            if self._options.embeddings:
                raise unsupported_capability(self._entry.name, Capability.CHAT)
            if tools is not None:
                _refuse_beside_tools(generation.request, tools)
            if tools is not None and self._prompt.knows_tools and not must_call(tools):
                reply = await self._chat(generation, tools)
            else:
                reply = await self._complete(generation)
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
            self._refuse(generation, reply.body)
        generation.fail(engine_failed(self._entry.name, "The engine stopped before the answer was complete."))

    async def _complete(self, generation: LlamaGeneration) -> Reply:
        request = generation.request
        prompt = await self._prompt.build(request.messages, request.tools)
        written = await self._prompt.tokens_of(request.continuation)
        generation.written = len(written)
        room = self._entry.max_output_tokens - len(written)
        if room < 1:
            generation.finish(FinishReason.LENGTH)
            return Reply(0)
        if written:
            prompt = [*([prompt] if isinstance(prompt, str) else prompt), *written]
        body = self._sampling(request, room=room) | {
            "prompt": prompt,
            "return_tokens": True,
            "response_fields": _FINAL_FIELDS,
        }
        body["logit_bias"] += self._form(generation, body)
        if generation.wants_logprobs:
            body["n_probs"] = max(1, request.top_logprobs or 0)
        return await self._server.stream("/completion", body, generation.on_event)

    async def _chat(self, generation: LlamaGeneration, tools: ToolOptions) -> Reply:
        """A model may call tools, and its template has its own words for that, which llama.cpp knows."""
        request = generation.request
        if request.top_logprobs is not None:
            raise DomainError(
                Reason.INVALID_FIELD,
                f"{self._entry.name} gives no log-probabilities where it may call tools.",
                fields=[FieldViolation("top_logprobs", "must not be asked for together with tools")],
            )
        messages, functions = await self._prompt.harmless(request.messages, tools)
        body = self._sampling(request, room=self._entry.max_output_tokens) | {
            "messages": messages,
            "tools": functions,
            "tool_choice": "auto",
            "parallel_tool_calls": not tools.single_call,
            "reasoning_format": "none",
            "stream_options": {"include_usage": True},
            "timings_per_token": True,
        }
        return await self._server.stream("/v1/chat/completions", body, generation.on_chunk)

    def _sampling(self, request: GenerationRequest, *, room: int) -> dict[str, Any]:
        sampling = request.sampling
        # llama.cpp passes over what it does not have.
        check_biases(sampling.logit_bias, vocabulary_size=self._vocabulary_size)
        body: dict[str, Any] = {
            "n_predict": min(sampling.max_tokens or room, room),
            "stream": True,
            "return_progress": True,
            "cache_prompt": True,
            "logit_bias": [[token, bias] for token, bias in sampling.logit_bias],
        }
        body |= {name: value for name in SAMPLER_OPTIONS if (value := getattr(self._options, name)) is not None}
        for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty"):
            if (value := getattr(sampling, name)) is not None:
                body[name] = value
        if sampling.seed is not None:
            body["seed"] = sampling.seed % _SEEDS
        return body

    def _form(self, generation: LlamaGeneration, body: dict[str, Any]) -> list[list[float]]:
        """Hold the answer to its form; what that adds to the biases."""
        request = generation.request
        asked = request.sampling.response_format
        if request.tools is not None and must_call(request.tools):
            asked = ResponseFormat(ResponseForm.JSON_SCHEMA, call_schema(request.tools))
        if asked is None:
            return []
        options = self._format.options(asked)
        if asked.form is not ResponseForm.GRAMMAR:
            # A grammar is refused at once when it is none, and may allow the guard.
            generation.form = self._format
        biases: list[list[float]] = options.pop("logit_bias", [])
        body |= options
        return biases

    def _refuse(self, generation: LlamaGeneration, body: Any) -> None:
        error = body.get("error", {}) if isinstance(body, dict) else {}
        if error.get("type") == _TOO_LONG:
            prompt_tokens = int(error.get("n_prompt_tokens", 0))
            if prompt_tokens - generation.written < self._entry.context_length:
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
        elif generation.request.tools is not None:
            generation.fail(refused_parameters())
        elif generation.request.sampling.response_format is not None:
            generation.fail(refused_format())
        else:
            generation.fail(DomainError(Reason.INVALID_FIELD, f"{self._entry.name} cannot process this prompt."))

    def _forget(self, generation: LlamaGeneration) -> None:
        self._running.pop(generation.request.key, None)
        if generation.usage.prompt_tokens:
            self._recent.append(generation.usage)


def _refuse_beside_tools(request: GenerationRequest, tools: ToolOptions) -> None:
    if request.continuation:
        raise unsupported_response_format(
            request.model, "An answer that may call tools is not continued; generate it again from its start."
        )
    # What is a call has no text that could have a form.
    if request.sampling.response_format is not None and not must_call(tools):
        raise unsupported_response_format(
            request.model, "An answer that may call tools cannot be held to a form; require the call, or leave it out."
        )
