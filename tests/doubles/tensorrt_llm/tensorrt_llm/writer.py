"""What the small model writes: text that depends on prompt and seed, JSON that follows a schema, calls of tools."""

from __future__ import annotations

import hashlib
import json
import random
import re
from typing import Any

from .errors import RequestError

_WORDS = (
    "the", "old", "sailor", "saw", "a", "ship", "in", "the harbour", "and", "wind", "of", "night", "was", "singing",
    "to", "sea", "stories", "é", "naïve", "日本", "😀", "Hello", "walked", "again",
)  # fmt: skip
_CAPITAL = "The capital of France is Paris."
_LONG = 400


def seed_of(*parts: Any) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def answer(prompt: str, seed: int, *, family: str) -> str:
    """The whole answer to a prompt. Only a question after the capital of France is answered shortly."""
    if "weather" in prompt and ("Tools: " in prompt or "You can call these functions" in prompt):
        return _calls(family)
    if "capital of France" in prompt:
        return _CAPITAL
    numbers = random.Random(seed_of(prompt, seed))
    text = " ".join(numbers.choice(_WORDS) for _ in range(_LONG))
    return f"Hi 😀 déjà 日本 {text}" if "😀" in prompt else f"Once{numbers.randrange(10)} {text}"


def _calls(family: str) -> str:
    call = {"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}
    if family == "qwen":
        return f"Let me look.\n<tool_call>\n{json.dumps(call)}\n</tool_call>"
    if family == "llama":
        return json.dumps({"name": call["name"], "parameters": call["arguments"]})
    return json.dumps([call])


def held(guide: Any, seed: int) -> str:
    """An answer that follows a guide.

    Raises:
        RequestError: it cannot be compiled.
    """
    if guide.grammar is not None:
        literal = re.fullmatch(r'\s*root\s*::=\s*"([^"]*)"\s*', guide.grammar)
        if literal is None:
            raise RequestError("failed to parse the EBNF grammar")
        return literal[1]
    if guide.json_object:
        return '{"cat": "Mia"}'
    try:
        schema = json.loads(guide.json) if isinstance(guide.json, str) else guide.json
        return json.dumps(_Schema(schema, random.Random(seed)).value(schema), ensure_ascii=False)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"failed to convert the JSON schema to a grammar: {error}") from error


class _Schema:
    def __init__(self, root: dict[str, Any], numbers: random.Random) -> None:
        self._root = root
        self._numbers = numbers

    def value(self, schema: dict[str, Any]) -> Any:
        if "$ref" in schema:
            return self.value(self._resolve(schema["$ref"]))
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._numbers.choice(schema["enum"])
        if "anyOf" in schema:
            return self.value(self._numbers.choice(schema["anyOf"]))
        return getattr(self, f"_{schema.get('type', 'object')}")(schema)

    def _resolve(self, reference: str) -> dict[str, Any]:
        found: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            found = found[step] if step else found
        return dict(found)

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            name: self.value(part)
            for name, part in schema.get("properties", {}).items()
            if name in schema.get("required", ()) or self._numbers.random() < 0.5
        }

    def _array(self, schema: dict[str, Any]) -> list[Any]:
        count = self._numbers.randint(schema.get("minItems", 0), schema.get("maxItems", schema.get("minItems", 0) + 1))
        return [self.value(schema.get("items", {"type": "string"})) for _ in range(count)]

    def _string(self, schema: dict[str, Any]) -> str:
        return self._numbers.choice(("blue", 'a "quoted" word', "naïve 日本"))

    def _integer(self, schema: dict[str, Any]) -> int:
        least = schema.get("minimum", 0)
        return self._numbers.randint(least, schema.get("maximum", least + 9))

    def _number(self, schema: dict[str, Any]) -> float:
        return self._integer(schema) + 0.5

    def _boolean(self, schema: dict[str, Any]) -> bool:
        return self._numbers.random() < 0.5

    def _null(self, schema: dict[str, Any]) -> None:
        return None
