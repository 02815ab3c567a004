"""How many tokens texts have, by the server's own tokenizer or by an estimate."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from services.inference.engines.engine import engine_failed
from services.inference.engines.openai.client import OpenAIClient
from services.inference.engines.openai.options import OpenAIOptions
from services.inference.engines.openai.refusals import key_problem
from services.inference.model import GeneratedPiece, TokenCounts
from services.runtime.settings import SettingsError

_SHAPES = ("u", "su", "uau", "suau", "suauau")
"""Sequences of system, user and assistant messages that the cost of the template is measured on."""
_ROLES = {"s": "system", "u": "user", "a": "assistant"}
_FILLER = "x"


class OpenAITokens:
    """The tokenizer of a model.

    The estimate is the number of bytes by `bytes_per_token`. With its default it is rather high for nearly all text:
    English has about four bytes per token, source code three, Chinese and Japanese two and a half or more.
    """

    def __init__(self, options: OpenAIOptions, client: OpenAIClient, *, entry: str, model: str) -> None:
        self._options = options
        self._client = client
        self._entry = entry
        self._model = model
        self._per_message = options.tokens_per_message
        self._per_prompt = options.tokens_per_prompt

    async def start(self) -> None:
        """See that the server counts, and find out what its chat template adds.

        Raises:
            SettingsError: it does not count, or not without a key.
        """
        if self._options.tokenizer == "estimate":
            return
        reply = await self._client.post_root("/tokenize", self._body(_FILLER, marks=False))
        if wants := key_problem(reply.refusal, api_key_env=self._options.api_key_env):
            raise SettingsError(f"model {self._entry}: {wants}")
        if not reply.ok or not _ids(reply.content):
            raise SettingsError(
                f"model {self._entry}: its server has no POST /tokenize (HTTP {reply.status}); "
                "set tokenizer: estimate in its engine_options"
            )
        if not self._options.embeddings:
            await self._measure()

    async def count(self, texts: Sequence[str]) -> TokenCounts:
        """Tokens of each text."""
        if self._options.tokenizer == "estimate":
            counts = tuple(self.estimate(text) for text in texts)
        else:
            counts = tuple(map(len, await asyncio.gather(*(self.tokenize(text) for text in texts))))
        return TokenCounts(counts=counts, tokens_per_message=self._per_message, tokens_per_prompt=self._per_prompt)

    async def of_pieces(self, pieces: Sequence[GeneratedPiece]) -> int:
        """Tokens of what was written before."""
        if not pieces:
            return 0
        if all(piece.token_ids or not piece.text for piece in pieces):
            return sum(len(piece.token_ids) for piece in pieces)
        return (await self.count(("".join(piece.text for piece in pieces),))).counts[0]

    def estimate(self, text: str) -> int:
        """The estimate for a text."""
        return math.ceil(len(text.encode()) / self._options.bytes_per_token)

    def estimate_prompt(self, texts: Sequence[str]) -> int:
        """The estimate for a prompt, template included."""
        return sum(map(self.estimate, texts)) + len(texts) * self._per_message

    async def tokenize(self, text: str, *, marks: bool = False) -> list[int]:
        """The ids of a text's tokens, with those that mark its start and end where there are such and they are wanted.

        Raises:
            DomainError: ENGINE_FAILED.
        """
        if not text and not marks:
            return []
        reply = await self._client.post_root("/tokenize", self._body(text, marks=marks))
        ids = _ids(reply.content) if reply.ok else None
        if ids is None:
            raise engine_failed(self._entry, "The tokenizer of the model's server failed.")
        return ids

    def _body(self, text: str, *, marks: bool) -> dict[str, Any]:
        # vLLM reads `prompt` and `add_special_tokens`, llama.cpp `content` and `add_special`.
        return {
            "model": self._model,
            "prompt": text,
            "add_special_tokens": marks,
            "content": text,
            "add_special": marks,
        }

    async def _measure(self) -> None:
        filler = len(await self.tokenize(_FILLER))
        added: dict[str, int] = {}
        for shape in _SHAPES:
            reply = await self._client.post(
                "/chat/completions",
                {
                    "model": self._model,
                    "messages": [{"role": _ROLES[letter], "content": _FILLER} for letter in shape],
                    self._options.max_tokens_field: 1,
                },
            )
            # Some templates take no system message, or none of several in a row.
            if wants := key_problem(reply.refusal, api_key_env=self._options.api_key_env):
                raise SettingsError(f"model {self._entry}: {wants}")
            if reply.ok:
                added[shape] = self._prompt_tokens(reply.content) - len(shape) * filler
        if not added:
            raise SettingsError(f"model {self._entry}: its server refuses the simplest chat; does the model chat?")
        # One more than measured: a text's last token may join the template's next one differently for other texts.
        pairs = [("su", "suau"), ("u", "uau"), ("suau", "suauau")]
        steps = [-(-(added[long] - added[short]) // 2) for short, long in pairs if short in added and long in added]
        self._per_message = max([0, *steps]) + 1
        self._per_prompt = max(0, *(total - len(shape) * self._per_message for shape, total in added.items())) + 1

    def _prompt_tokens(self, content: Any) -> int:
        try:
            return int(content["usage"]["prompt_tokens"])
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(
                f"model {self._entry}: its server does not say how many tokens a prompt has; "
                "set tokenizer: estimate in its engine_options"
            ) from error


def _ids(content: Any) -> list[int] | None:
    tokens = content.get("tokens") if isinstance(content, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        return None
    return tokens
