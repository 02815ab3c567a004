"""Vectors from llama.cpp, for GGUF models that are made for them."""

from __future__ import annotations

from collections.abc import Sequence

from services.inference.engines.engine import engine_failed
from services.inference.engines.llama_prompt import LlamaPrompt
from services.inference.engines.llama_server import LlamaServer
from services.inference.model import Embeddings
from services.runtime.settings import SettingsError

_UNIT_LENGTH = 2
"""llama.cpp's name of the Euclidean norm."""


class LlamaEmbedding:
    """Turns texts into vectors. `measure` first."""

    def __init__(self, *, model: str, server: LlamaServer, prompt: LlamaPrompt, context_length: int) -> None:
        self._model = model
        self._server = server
        self._prompt = prompt
        self._context_length = context_length
        self._before: list[int] = []
        self._after: list[int] = []

    async def measure(self) -> None:
        """Find out what the model wants around a text, and whether it has one vector for all of it.

        Raises:
            SettingsError: it has one for each token.
        """
        around = await self._prompt.surrounding_tokens()
        self._before, self._after = around[:1], around[1:]
        reply = await self._server.call("/embedding", {"content": [await self._tokens("x y z")]})
        if not reply.ok or len(reply.body[0]["embedding"]) != 1 or not isinstance(reply.body[0]["embedding"][0], list):
            raise SettingsError(
                f"model {self._model}: llama.cpp has no vector of a whole text for this model; "
                "set engine_options.pooling to mean, cls or last, whichever it was made for"
            )

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors of length 1.

        Raises:
            DomainError: ENGINE_FAILED.
        """
        if not texts:
            return Embeddings((), 0)
        room = self._context_length - len(self._before) - len(self._after)
        tokenized = await self._prompt.plain_tokens(texts)
        content = [[*self._before, *ids[:room], *self._after] for ids in tokenized]
        reply = await self._server.call("/embedding", {"content": content, "embd_normalize": _UNIT_LENGTH})
        if not reply.ok:
            raise engine_failed(self._model, "The engine failed.")
        found = sorted(reply.body, key=lambda each: int(each["index"]))
        return Embeddings(
            vectors=[each["embedding"][0] for each in found],
            prompt_tokens=sum(map(len, content)),
            truncated=sum(len(ids) > room for ids in tokenized),
        )

    async def _tokens(self, text: str) -> list[int]:
        (ids,) = await self._prompt.plain_tokens((text,))
        return [*self._before, *ids, *self._after]
