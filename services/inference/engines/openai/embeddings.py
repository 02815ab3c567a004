"""Texts to vectors through /embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.inference.engines.engine import engine_failed
from services.inference.engines.openai.client import OpenAIClient
from services.inference.engines.openai.refusals import refused
from services.inference.engines.openai.tokens import OpenAITokens
from services.inference.model import Embeddings
from services.runtime.model_registry import ModelEntry

_TEXTS_PER_REQUEST = 64


class OpenAIEmbeddings:
    """An embedding model behind a server.

    A text that is too long is cut where the server's tokenizer can be asked; without it the server cuts it, or refuses
    it with CONTEXT_LENGTH_EXCEEDED.
    """

    def __init__(
        self, entry: ModelEntry, client: OpenAIClient, tokens: OpenAITokens, *, model: str, cuts: bool
    ) -> None:
        self._entry = entry
        self._client = client
        self._tokens = tokens
        self._model = model
        self._cuts = cuts

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors of length 1, in the order of the texts.

        Raises:
            DomainError: ENGINE_FAILED, CONTEXT_LENGTH_EXCEEDED, OVERLOADED.
        """
        inputs: list[str | list[int]] = [await self._fitted(text) for text in texts]
        vectors: list[Sequence[float]] = [()] * len(texts)
        prompt_tokens = 0
        for places in _requests(inputs):
            embedded, tokens = await self._request([inputs[at] for at in places])
            prompt_tokens += tokens
            for at, vector in zip(places, embedded, strict=True):
                vectors[at] = vector
        return Embeddings(
            vectors=vectors,
            prompt_tokens=prompt_tokens,
            truncated=sum(isinstance(each, list) for each in inputs),
        )

    async def _fitted(self, text: str) -> str | list[int]:
        """The text, or its first tokens when there are too many."""
        limit = self._entry.context_length
        # No token has less than a byte.
        if not self._cuts or len(text.encode()) + 2 <= limit:
            return text
        ids = await self._tokens.tokenize(text, marks=True)
        if len(ids) <= limit:
            return text
        plain = await self._tokens.tokenize(text)
        ends_marked = ids[-1:] != plain[-1:]
        return [*ids[: limit - 1], ids[-1]] if ends_marked else ids[:limit]

    async def _request(self, inputs: list[str | list[int]]) -> tuple[list[list[float]], int]:
        reply = await self._client.post(
            "/embeddings", {"model": self._model, "input": inputs, "encoding_format": "float"}
        )
        if not reply.ok:
            raise refused(reply.refusal, model=self._entry.name, context_length=self._entry.context_length)
        try:
            data = sorted(reply.content["data"], key=lambda each: int(each["index"]))
            vectors = [_unit([float(value) for value in each["embedding"]]) for each in data]
            tokens = int((reply.content.get("usage") or {}).get("prompt_tokens") or 0)
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
            raise engine_failed(self._entry.name, "The model's server sent what are no embeddings.") from error
        if len(vectors) != len(inputs):
            raise engine_failed(self._entry.name, "The model's server sent another number of embeddings.")
        return vectors, tokens or self._estimate(inputs)

    def _estimate(self, inputs: list[str | list[int]]) -> int:
        return sum(len(each) if isinstance(each, list) else self._tokens.estimate(each) for each in inputs)


def _requests(inputs: Sequence[str | list[int]]) -> list[list[int]]:
    """Places of the inputs that go together. One request has texts or ids, never both."""
    requests: list[list[int]] = []
    for kind in (str, list):
        places = [at for at, each in enumerate(inputs) if isinstance(each, kind)]
        requests += [places[at : at + _TEXTS_PER_REQUEST] for at in range(0, len(places), _TEXTS_PER_REQUEST)]
    return requests


def _unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in vector))
    if not math.isfinite(length):
        raise ValueError("a vector is not finite")
    return [value / length for value in vector]
