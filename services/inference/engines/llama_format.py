"""The form of an answer, as llama.cpp's samplers take it.

llama.cpp says nothing when it cannot hold an answer to a schema: one that it does not understand, or that overtaxes its
lexer in the middle of an answer, is ignored from there on. So a guard is set: a special token, which no JSON can hold,
is made so likely that the model writes it at once when nothing forbids it any more.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from services.inference.engines.engine import invalid_response_format, unsupported_response_format
from services.inference.engines.llama_prompt import LlamaPrompt
from services.inference.engines.llama_server import LlamaServer
from services.inference.model import GeneratedPiece, ResponseForm, ResponseFormat
from services.runtime.errors import DomainError

_log = logging.getLogger(__name__)

_ANY_OBJECT = {"type": "object"}
_STYLE = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
"""llama.cpp's own key of a schema. Where space is free, small models write spaces until their tokens are used up; and a
caller must not be able to ask for leniency."""

_CERTAIN = 1000.0
"""Added to a logit, it leaves no chance to all others."""
_TRIAL = (GeneratedPiece("x"),)
_TRIAL_TOKENS = 4
_TOKENS_PER_CHARACTER = 4
"""At most: one for each byte."""

_OTHER_LANGUAGE = "%"
"""What begins like this llama.cpp takes for a grammar of another language than GBNF."""
_MAX_NESTING = 100
"""Of brackets in a grammar: llama.cpp's parser ends the process when its stack is full."""


class LlamaFormat:
    """What to ask of llama.cpp so that an answer has a form. `measure` first."""

    def __init__(self, *, model: str, server: LlamaServer, prompt: LlamaPrompt, grammars: bool) -> None:
        self._model = model
        self._server = server
        self._prompt = prompt
        self._grammars = grammars
        self._guard: int | None = None

    @property
    def holds_schemas(self) -> bool:
        """Whether there is a guard, without which llama.cpp's silence would not be noticed."""
        return self._guard is not None

    async def measure(self) -> None:
        """Find a token that can be the guard, and see that it is one."""
        for token in await self._prompt.special_tokens():
            free = await self._try(token)
            held = await self._try(token, json_schema=_ANY_OBJECT)
            if free == [token] * _TRIAL_TOKENS and held and token not in held:
                self._guard = token
                return
        _log.warning("answers of this model cannot be held to a schema", extra={"model": self._model})

    def options(self, asked: ResponseFormat) -> dict[str, Any]:
        """Members of the request to llama.cpp.

        Raises:
            DomainError: UNSUPPORTED_RESPONSE_FORMAT, or INVALID_FIELD for what is no schema or grammar at all. What
                llama.cpp itself refuses shows later.
        """
        if asked.form is ResponseForm.GRAMMAR:
            if not self._grammars:
                raise unsupported_response_format(self._model, f"{self._model} takes no grammars; use a JSON Schema.")
            return {"grammar": _checked_grammar(asked.text)}
        if self._guard is None:
            raise unsupported_response_format(self._model, f"{self._model} cannot hold an answer to a form.")
        schema = _ANY_OBJECT if asked.form is ResponseForm.JSON_OBJECT else _parsed_schema(asked.text)
        return {"json_schema": schema | _STYLE, "logit_bias": [[self._guard, _CERTAIN]]}

    def is_lost(self, token_ids: Sequence[int], token_count: int) -> bool:
        """Whether new tokens of an answer that must have a form show that llama.cpp has let it go.

        It says nothing while a character is incomplete; what takes more tokens than a character can is the guard.
        """
        return self._guard in token_ids or token_count > _TOKENS_PER_CHARACTER

    async def _try(self, token: int, **options: Any) -> list[int]:
        # Not a token that chats begin with: llama.cpp keeps what it computed, and the first chats would go on from
        # there. Computed alone it differs in the last bits, and a small model's answers with them.
        body = {
            "prompt": await self._prompt.tokens_of(_TRIAL),
            "n_predict": _TRIAL_TOKENS,
            "temperature": 0,
            "return_tokens": True,
            "logit_bias": [[token, _CERTAIN]],
            **options,
        }
        reply = await self._server.call("/completion", body)
        return list(reply.body["tokens"]) if reply.ok else []


def refused_format() -> DomainError:
    """llama.cpp cannot do it."""
    return invalid_response_format(
        "The response format cannot be held to.", "is not one that the engine can parse, or uses what it does not know"
    )


def _parsed_schema(text: str) -> dict[str, Any]:
    try:
        schema = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise invalid_response_format(
            "The JSON Schema of the response format is not JSON.", "must be a JSON Schema, written as JSON"
        ) from error
    if not isinstance(schema, dict):
        raise invalid_response_format(
            "The JSON Schema of the response format is not an object.", "must be a JSON Schema that is an object"
        )
    return schema


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _checked_grammar(text: str) -> str:
    grammar = text.strip()
    if not grammar or grammar.startswith(_OTHER_LANGUAGE):
        raise invalid_response_format("The grammar of the response format is not GBNF.", "must be a grammar in GBNF")
    depth = 0
    for character in grammar:
        if character in "([{":
            depth += 1
            if depth > _MAX_NESTING:
                raise invalid_response_format(
                    "The grammar of the response format is nested too deeply.",
                    f"must not have more than {_MAX_NESTING} brackets open at the same place",
                )
        elif character in ")]}":
            depth = max(0, depth - 1)
    return grammar
