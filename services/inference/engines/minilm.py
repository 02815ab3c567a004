"""Engine `minilm`: embeddings from a small BERT such as all-MiniLM-L6-v2, on the CPU."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from services.inference.engines.engine import engine_failed, read_options, unsupported_capability
from services.inference.model import (
    Capability,
    Delta,
    Embeddings,
    End,
    EngineStats,
    FinishReason,
    GenerationRequest,
    Sink,
    TokenCounts,
)
from services.runtime.model_file import find_model_file
from services.runtime.model_registry import ModelEntry
from services.runtime.sentence_encoder import SentenceEncoder
from services.runtime.settings import SettingsError
from services.runtime.token_batches import make_batches

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


class MiniLmOptions(BaseModel):
    """`engine_options` of a minilm model."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    threads: int = Field(1, ge=1, le=256, description="cores that a batch may use; batches follow one another")
    batch_tokens: int = Field(
        512, ge=1, description="tokens per batch: more is hardly faster on a CPU, and others wait for a batch to end"
    )


class MiniLmEngine:
    """The model whose weights `path` names: a safetensors file, with its configuration and tokenizer beside it.

    One thread does all the work, so the event loop never waits for it. Whoever embeds many texts gives way to others
    after each batch.
    """

    def __init__(self, entry: ModelEntry) -> None:
        if not entry.path:
            raise SettingsError(f"model {entry.name}: engine minilm needs a path to a safetensors file")
        self._entry = entry
        self._options = read_options(entry, MiniLmOptions)
        self._file = find_model_file(entry.path, model=entry.name)
        self._model: SentenceEncoder | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"minilm-{entry.name}")

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Embeddings and nothing else."""
        return frozenset({Capability.EMBEDDINGS})

    async def start(self) -> None:
        """Load the model."""
        load = functools.partial(
            SentenceEncoder.load, self._file, model=self._entry.name, threads=self._options.threads
        )
        model = await asyncio.get_running_loop().run_in_executor(self._worker, load)
        if self._entry.context_length > model.max_tokens:
            raise SettingsError(
                f"model {self._entry.name}: context_length is {self._entry.context_length}, and the model was made for "
                f"{model.max_tokens} tokens; correct it in the models file"
            )
        self._model = model

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        """Refuse: this model writes nothing."""
        error = unsupported_capability(self._entry.name, Capability.CHAT)
        delta = Delta(request.generation_id, "", [], 0, End(FinishReason.ERROR, error=error))
        asyncio.get_running_loop().call_soon(sink, delta)

    def cancel(self, key: int) -> None:
        """There is never a generation to end."""

    async def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        """Count with the model's own tokenizer; the two tokens that mark a text's start and end are per prompt."""
        marks = self._loaded().marks
        tokenized = await self._work(functools.partial(self._loaded().tokenize, texts))
        return TokenCounts(
            counts=tuple(len(ids) - marks for ids in tokenized), tokens_per_message=0, tokens_per_prompt=marks
        )

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Turn texts into vectors; of one that is longer than the context, its beginning."""
        limit = self._entry.context_length
        whole = await self._work(functools.partial(self._loaded().tokenize, texts))
        tokenized = [self._loaded().cut(ids, limit) for ids in whole]
        vectors: list[Sequence[float]] = [()] * len(tokenized)
        for batch in make_batches([len(ids) for ids in tokenized], max_tokens=self._options.batch_tokens):
            embed = functools.partial(self._loaded().embed, [tokenized[at] for at in batch])
            for at, vector in zip(batch, await self._work(embed), strict=True):
                vectors[at] = vector
        return Embeddings(
            vectors=vectors,
            prompt_tokens=sum(len(ids) for ids in tokenized),
            truncated=sum(len(ids) > limit for ids in whole),
        )

    def stats(self) -> EngineStats:
        """There is no cache to speak of."""
        return EngineStats()

    async def check(self) -> None:
        """Embed something small."""
        await self.embed(("x",))

    async def close(self) -> None:
        """Unload the model; a batch that runs is the last one."""
        self._model = None
        self._worker.shutdown(wait=False)

    def _loaded(self) -> SentenceEncoder:
        if self._model is None:
            raise engine_failed(self._entry.name, "The engine is not running.")
        return self._model

    async def _work(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, work)
        except Exception as error:
            self._loaded()
            _log.error("embedding failed", extra={"model": self._entry.name, "error_type": type(error).__name__})
            raise engine_failed(self._entry.name, "The engine failed.") from error
