"""Messages to a prompt of the model, through its own chat template.

The template marks turns with special tokens, which have a spelling such as `<|im_end|>`. A user who writes that must
not be able to end their turn and speak as the system, so such a text goes in as plain tokens.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Any

from services.inference.engines.llama_server import LlamaServer
from services.inference.model import GeneratedPiece, Message, TokenCounts
from services.runtime.errors import DomainError, FieldViolation, Reason

_SEPARATOR = -1
"""No token has this id; it comes back from the tokenizer where it was put in."""

_LIKE_A_SPECIAL_TOKEN = re.compile(r"<[^<>\s]{1,64}>|\[[A-Z_/]{2,32}\]")

_SHAPES = ("u", "su", "uau", "suau", "suauau")
"""Sequences of system, user and assistant messages that the cost of the template is measured on."""

Prompt = str | list[str | int]
"""As /completion takes it: text in which special tokens count, and between it ids."""


class LlamaPrompt:
    """The template and the tokenizer of a loaded model."""

    def __init__(self, *, model: str, server: LlamaServer) -> None:
        self._model = model
        self._server = server
        self._per_message = 0
        self._per_prompt = 0

    async def measure(self) -> None:
        """Find out what the template adds. Call once before `count`."""
        added: dict[str, int] = {}
        for shape in _SHAPES:
            roles = {"s": "system", "u": "user", "a": "assistant"}
            prompt = await self._template([{"role": roles[letter], "content": "x"} for letter in shape])
            tokens = (await self._tokenize([prompt, "x"], special=True))[:2]
            added[shape] = len(tokens[0]) - len(shape) * len(tokens[1])
        # One more than measured: a text's last token may join the template's next one differently for other texts.
        self._per_message = max(-(-(added["suau"] - added["su"]) // 2), -(-(added["uau"] - added["u"]) // 2)) + 1
        self._per_prompt = max(0, *(total - len(shape) * self._per_message for shape, total in added.items())) + 1

    async def count(self, texts: Sequence[str]) -> TokenCounts:
        """Tokens of each text."""
        counts = tuple(len(ids) for ids in await self._tokenize(texts, special=False)) if texts else ()
        return TokenCounts(counts=counts, tokens_per_message=self._per_message, tokens_per_prompt=self._per_prompt)

    async def special_tokens(self) -> list[int]:
        """Tokens that mark turns, in the order of a chat."""
        prompt = await self._template([{"role": "user", "content": "x"}])
        plain = (await self._tokenize([prompt], special=False))[0]
        special = (await self._tokenize([prompt], special=True))[0]
        return list(dict.fromkeys(token for token in special if token not in plain))

    async def tokens_of(self, pieces: Sequence[GeneratedPiece]) -> list[int]:
        """The tokens of what was written before: those that are known, and those that its text would be.

        The text is the model's own, but it may have copied there what a user made up: nothing in it is special.
        """
        # Neighbours whose ids are unknown are one text: a word must not be cut into other tokens at their border.
        runs: list[str | tuple[int, ...]] = []
        for piece in pieces:
            if piece.token_ids:
                runs.append(piece.token_ids)
            elif runs and isinstance(runs[-1], str):
                runs[-1] += piece.text
            else:
                runs.append(piece.text)
        texts = [run for run in runs if isinstance(run, str)]
        tokenized = iter(await self._tokenize(texts, special=False) if texts else ())
        return [token for run in runs for token in (next(tokenized) if isinstance(run, str) else run)]

    async def build(self, messages: Sequence[Message]) -> Prompt:
        """The prompt of a chat. A last message of the assistant is left open, to be continued.

        Raises:
            DomainError: INVALID_FIELD when the template refuses the messages.
        """
        texts = [message.content for message in messages]
        plain = await self._plain_tokens(texts)
        if not plain:
            return await self._template([{"role": m.role.value, "content": m.content} for m in messages])
        mark = f"content{secrets.token_hex(12)}x"
        prompt = await self._template(
            [
                {"role": m.role.value, "content": f"{mark}{at}e" if at in plain else m.content}
                for at, m in enumerate(messages)
            ]
        )
        parts: list[str | int] = []
        for place, part in enumerate(re.split(f"{mark}([0-9]+)e", prompt)):
            if place % 2:
                parts.extend(plain[int(part)])
            elif part:
                parts.append(part)
        return parts

    async def _plain_tokens(self, texts: Sequence[str]) -> dict[int, list[int]]:
        """Token ids of those texts that spell a special token, by their place."""
        suspects = [at for at, text in enumerate(texts) if _LIKE_A_SPECIAL_TOKEN.search(text)]
        if not suspects:
            return {}
        content = [texts[at] for at in suspects]
        plain = await self._tokenize(content, special=False)
        special = await self._tokenize(content, special=True)
        return {at: ids for at, ids, other in zip(suspects, plain, special, strict=True) if ids != other}

    async def _template(self, messages: list[dict[str, str]]) -> str:
        reply = await self._server.call("/apply-template", {"messages": messages})
        if not reply.ok:
            raise DomainError(
                Reason.INVALID_FIELD,
                f"The chat template of {self._model} does not take this sequence of messages.",
                fields=[FieldViolation("messages", "a sequence of roles that the model's template refuses")],
            )
        return str(reply.body["prompt"])

    async def _tokenize(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        content: list[Any] = [_SEPARATOR]
        for text in texts:
            content += [text, _SEPARATOR]
        reply = await self._server.call("/tokenize", {"content": content, "parse_special": special})
        if not reply.ok:
            raise DomainError(
                Reason.ENGINE_FAILED, f"The tokenizer of {self._model} failed.", metadata={"model": self._model}
            )
        tokenized: list[list[int]] = []
        for token in reply.body["tokens"][1:]:
            if not tokenized:
                tokenized.append([])
            if token == _SEPARATOR:
                tokenized.append([])
            else:
                tokenized[-1].append(token)
        return tokenized[: len(texts)] if tokenized else [[] for _ in texts]
