"""Engine `openai`: a model behind any server with OpenAI's API, such as vLLM, NIM, trtllm-serve or llama-server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import httpx

from services.inference.engines.engine import (
    engine_failed,
    read_options,
    unsupported_capability,
    unsupported_response_format,
)
from services.inference.engines.openai.answer import OpenAIAnswer
from services.inference.engines.openai.body import build_body, texts_of
from services.inference.engines.openai.client import OpenAIClient, RefusedError
from services.inference.engines.openai.embeddings import OpenAIEmbeddings
from services.inference.engines.openai.events import EventReader
from services.inference.engines.openai.options import OpenAIOptions, read_key
from services.inference.engines.openai.refusals import key_problem, refused
from services.inference.engines.openai.tokens import OpenAITokens
from services.inference.model import (
    Capability,
    Embeddings,
    EngineStats,
    FinishReason,
    GenerationRequest,
    Sink,
    TokenCounts,
)
from services.runtime.errors import DomainError
from services.runtime.model_registry import ModelEntry
from services.runtime.settings import SettingsError

_log = logging.getLogger(__name__)

_CHAT = frozenset(
    {
        Capability.CHAT,
        Capability.TOOLS,
        Capability.JSON,
        Capability.LOGPROBS,
        Capability.LOGIT_BIAS,
        Capability.PENALTIES,
    }
)
_EMBEDDINGS = frozenset({Capability.EMBEDDINGS})

_START_INTERVAL_S = 0.5
_CHECKED_FOR_S = 10.0
"""An answer that goes on says as much as a check does."""
_NAMED_MODELS = 8


class OpenAIEngine:
    """One model of one server.

    No token ids are given: the API has none. An answer that is continued is so as text, which the server cuts into
    tokens anew.
    """

    def __init__(self, entry: ModelEntry) -> None:
        self._entry = entry
        self._options = read_options(entry, OpenAIOptions)
        self._key = read_key(self._options, model=entry.name)
        self._model = self._options.model or entry.name
        can = _EMBEDDINGS if self._options.embeddings else _CHAT
        if entry.capabilities is not None:
            can = can & {Capability(name) for name in entry.capabilities}
        self._capabilities = can
        self._client = OpenAIClient(self._options, entry=entry.name, key=self._key, slots=entry.slots)
        self._tokens = OpenAITokens(self._options, self._client, entry=entry.name, model=self._model)
        self._embeddings = OpenAIEmbeddings(
            entry, self._client, self._tokens, model=self._model, cuts=self._options.tokenizer == "server"
        )
        self._running: dict[int, OpenAIAnswer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._worked_at = float("-inf")

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What such servers can, less what the models file leaves out."""
        return self._capabilities

    @property
    def options(self) -> OpenAIOptions:
        """How it speaks with its server."""
        return self._options

    async def start(self) -> None:
        """Wait for the server, and see that it has the model."""
        names = await self._served_models()
        if self._model not in names:
            known = ", ".join(sorted(names)[:_NAMED_MODELS]) or "none"
            raise SettingsError(
                f"model {self._entry.name}: its server has no model {self._model}; it has {known}. "
                "Correct `model` in its engine_options"
            )
        await self._tokens.start()

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        """Begin a generation."""
        answer = OpenAIAnswer(
            request,
            sink,
            forget=self._forget,
            logprobs=self._wants_logprobs(request),
            estimated_prompt=self._tokens.estimate_prompt(texts_of(request.messages)),
        )
        self._running[request.key] = answer
        task = asyncio.get_running_loop().create_task(self._run(answer))
        answer.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self, key: int) -> None:
        """End a generation: its connection is closed, and the server stops its work."""
        answer = self._running.get(key)
        if answer is not None:
            answer.finish(FinishReason.CANCELLED)

    async def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        """Count with the server's tokenizer, or estimate, as the options say."""
        return await self._tokens.count(texts)

    async def token_ids(self, text: str) -> list[int]:
        """The tokens of a text by the server's own tokenizer, for models whose options have it asked.

        Raises:
            DomainError: ENGINE_FAILED.
        """
        return await self._tokens.tokenize(text)

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Turn texts into vectors."""
        if Capability.EMBEDDINGS not in self._capabilities:
            raise unsupported_capability(self._entry.name, Capability.EMBEDDINGS)
        embeddings = await self._embeddings.embed(texts)
        self._worked_at = asyncio.get_running_loop().time()
        return embeddings

    def stats(self) -> EngineStats:
        """The API says nothing of a cache."""
        return EngineStats()

    async def check(self) -> None:
        """Ask the server for its models, unless it has just answered something."""
        if asyncio.get_running_loop().time() - self._worked_at < _CHECKED_FOR_S:
            return
        reply = await self._client.get("/models")
        if not reply.ok:
            raise refused(reply.refusal, model=self._entry.name, context_length=self._entry.context_length)
        self._worked_at = asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Cancel all generations and close the connections."""
        for key in list(self._running):
            self.cancel(key)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    async def _served_models(self) -> list[str]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.start_timeout_s
        address = httpx.URL(self._options.base_url).netloc.decode()
        while True:
            try:
                reply = await self._client.get("/models")
            except DomainError as error:
                problem = error.message
            else:
                if reply.ok:
                    return _names(reply.content)
                if wants := key_problem(reply.refusal, api_key_env=self._options.api_key_env):
                    raise SettingsError(f"model {self._entry.name}: {wants}")
                problem = refused(
                    reply.refusal, model=self._entry.name, context_length=self._entry.context_length
                ).message
                if reply.status < 500:
                    break
            if loop.time() >= deadline:
                break
            await asyncio.sleep(_START_INTERVAL_S)
        raise SettingsError(
            f"model {self._entry.name}: {problem} It should be at {address}: start it, or correct base_url in the "
            "model's engine_options"
        )

    async def _run(self, answer: OpenAIAnswer) -> None:
        try:
            await self._generate(answer)
        except DomainError as error:
            self._worked_at = float("-inf")
            answer.fail(error)
        except TimeoutError:
            self._worked_at = float("-inf")
            answer.fail(engine_failed(self._entry.name, "The model's server has stopped answering."))
        except Exception as error:  # noqa: BLE001 - a generation that nobody ends would hold its slot for ever
            _log.error("generation failed", extra={"model": self._entry.name, "error_type": type(error).__name__})
            answer.fail(engine_failed(self._entry.name, "The engine failed."))

    async def _generate(self, answer: OpenAIAnswer) -> None:
        request = answer.request
        if self._options.continuation == "none" and any(piece.text for piece in request.continuation):
            raise unsupported_response_format(self._entry.name, f"{self._entry.name} cannot continue an answer.")
        room = self._entry.max_output_tokens - await self._tokens.of_pieces(request.continuation)
        if room < 1:
            answer.finish(FinishReason.LENGTH)
            return
        limit = min(request.sampling.max_tokens or room, room)
        body = build_body(
            request,
            self._options,
            model=self._model,
            max_tokens=limit,
            logprobs=self._wants_logprobs(request),
        )
        try:
            try:
                await self._stream(answer, body)
            except RefusedError as error:
                too_long = error.refusal
                if not too_long.is_about_length or too_long.prompt_tokens >= self._entry.context_length:
                    raise
                # Some servers refuse a prompt that fits when it would not with the longest answer.
                del body[self._options.max_tokens_field]
                answer.limit = limit
                await self._stream(answer, body)
        except RefusedError as error:
            raise refused(
                error.refusal,
                model=self._entry.name,
                context_length=self._entry.context_length,
                estimated_tokens=self._tokens.estimate_prompt(texts_of(request.messages)),
                request=request,
            ) from None

    async def _stream(self, answer: OpenAIAnswer, body: dict[str, object]) -> None:
        loop = asyncio.get_running_loop()
        events = EventReader()
        async with asyncio.timeout(self._options.first_event_timeout_s) as silence:
            async with self._client.stream(
                "/chat/completions", body, traceparent=answer.request.traceparent
            ) as received:
                async for data in received:
                    # Comments that keep a connection open are no sign of an answer.
                    if arrived := events.feed(data):
                        self._worked_at = loop.time()
                        silence.reschedule(self._worked_at + self._options.idle_timeout_s)
                        answer.take(arrived)
                        if answer.has_ended:
                            return
                answer.take(events.end())
                answer.end()

    def _wants_logprobs(self, request: GenerationRequest) -> bool:
        return Capability.LOGPROBS in self._capabilities and (request.top_logprobs is not None or request.confidence)

    def _forget(self, answer: OpenAIAnswer) -> None:
        self._running.pop(answer.request.key, None)


def _names(content: object) -> list[str]:
    data = content.get("data") if isinstance(content, dict) else None
    return [str(each["id"]) for each in data or () if isinstance(each, dict) and "id" in each]
