"""A value that a JSON Schema describes, drawn from a seed.

It knows the common words of JSON Schema. One that it does not know is refused and never ignored: what it restricts
would not hold.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from services.inference.engines.engine import invalid_response_format

_DEEPEST = 12
_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "iris", "jade", "koi", "lark")
_FORMATS = {
    "date": "2026-03-14",
    "date-time": "2026-03-14T09:26:53Z",
    "time": "09:26:53Z",
    "email": "ada@example.com",
    "uri": "https://example.com/",
    "uuid": "5f0c9a34-7a63-4c0e-9a55-2f7a8f2f1b11",
    "ipv4": "192.0.2.1",
}
_NOTES = {
    "$schema", "$id", "$defs", "definitions", "$comment", "title", "description", "default", "examples", "deprecated",
    "readOnly", "writeOnly", "x-guidance", "strict",
}  # fmt: skip
_KNOWN = _NOTES | {
    "type", "const", "enum", "anyOf", "oneOf", "$ref", "properties", "required", "additionalProperties", "items",
    "prefixItems", "minItems", "maxItems", "minLength", "maxLength", "format", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "nullable",
}  # fmt: skip


class UnknownFormError(Exception):
    """No value can be drawn for a schema, though it may be one."""


def parse_schema(text: str) -> dict[str, Any]:
    """A schema as it came.

    Raises:
        DomainError: INVALID_FIELD for what is none.
    """
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid_response_format(
            "The JSON Schema is not JSON.", "must be a JSON Schema, written as JSON"
        ) from error
    if not isinstance(schema, dict):
        raise invalid_response_format("The JSON Schema is not an object.", "must be a JSON Schema that is an object")
    return schema


def draw(schema: dict[str, Any], seed: int) -> str:
    """A JSON text that a schema describes.

    Raises:
        UnknownFormError: the schema uses what is not known here.
        DomainError: INVALID_FIELD for what is no schema.
    """
    return json.dumps(_Drawing(schema, seed).value(schema, 0), ensure_ascii=False)


class _Drawing:
    def __init__(self, root: dict[str, Any], seed: int) -> None:
        self._root = root
        self._state = seed

    def value(self, schema: Any, depth: int) -> Any:
        if schema is True or schema == {}:
            return self._word()
        if not isinstance(schema, dict):
            raise _no_schema("has a part that is no schema")
        if depth > _DEEPEST:
            raise UnknownFormError("it is nested too deeply")
        if unknown := sorted(set(schema) - _KNOWN):
            raise UnknownFormError(f"{unknown[0]!r} is not known here")
        if "$ref" in schema:
            return self.value(self._referred(schema["$ref"]), depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choose(schema["enum"])
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return self._one_of(schema, word, depth)
        return self._of_type(schema, depth)

    def _of_type(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type") or (
            "object" if "properties" in schema else "array" if "items" in schema else "string"
        )
        if isinstance(kind, list) and kind:
            kind = next((each for each in kind if each != "null"), kind[0])
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "string":
                return self._string(schema)
            case "integer" | "number":
                return self._number(schema, whole=kind == "integer")
            case "boolean":
                return self._next(2) == 1
            case "null":
                return None
        raise _no_schema("has a type that JSON does not have")

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        members = schema.get("properties", {})
        required = schema.get("required", [])
        if not isinstance(members, dict) or not isinstance(required, list):
            raise _no_schema("has properties that are none")
        extra = schema.get("additionalProperties", True)
        drawn: dict[str, Any] = {}
        for name in [*members, *(name for name in required if name not in members)]:
            # Where a schema refers to itself, only what must be there ends.
            if name in members and (name in required or depth < 3):
                drawn[name] = self.value(members[name], depth + 1)
            elif name not in members and extra is False:
                raise UnknownFormError("it requires what it forbids")
            elif name not in members:
                drawn[name] = self.value(extra, depth + 1)
        return drawn

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first = [self.value(each, depth + 1) for each in schema.get("prefixItems", [])]
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        wanted = max(least, len(first), 1 if depth < 3 else 0)
        count = wanted if most is None else min(wanted, int(most))
        if count < least:
            raise UnknownFormError("no array has as many items")
        items = schema.get("items", {})
        return [*first, *(self.value(items, depth + 1) for _ in range(count - len(first)))][:count]

    def _string(self, schema: Mapping[str, Any]) -> str:
        if "format" in schema:
            if schema["format"] not in _FORMATS:
                raise UnknownFormError("a format of strings is not known here")
            return _FORMATS[schema["format"]]
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
        text = self._word()
        while len(text) < least:
            text += f" {self._word()}"
        if most is None:
            return text
        if int(most) < least:
            raise UnknownFormError("no string is as long")
        return text[: int(most)]

    def _number(self, schema: Mapping[str, Any], *, whole: bool) -> int | float:
        step = schema.get("multipleOf", 1 if whole else 0.5)
        low, high = _bounds(schema, step)
        first = math.ceil(low / step)
        last = math.floor(high / step)
        if last < first:
            raise UnknownFormError("no number is within its limits")
        value = (first + self._next(min(last - first + 1, 1_000))) * step
        return int(value) if whole else value

    def _one_of(self, schema: Mapping[str, Any], word: str, depth: int) -> Any:
        choices = schema[word]
        if not isinstance(choices, list) or not choices:
            raise _no_schema("has a choice of nothing")
        if set(schema) - _NOTES - {word, "type"}:
            raise UnknownFormError("a choice that has to hold together with other words is not known here")
        start = self._next(len(choices))
        last: UnknownFormError | None = None
        for choice in (*choices[start:], *choices[:start]):
            try:
                return self.value(choice, depth + 1)
            except UnknownFormError as error:
                last = error
        raise last if last is not None else _no_schema("has a choice of nothing")

    def _referred(self, reference: Any) -> Any:
        place: Any = self._root
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise _no_schema("refers to another document")
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(place, list) and name.isdecimal() and int(name) < len(place):
                place = place[int(name)]
            elif isinstance(place, dict) and name in place:
                place = place[name]
            else:
                raise _no_schema("refers to what is not there")
        return place

    def _choose(self, values: Any) -> Any:
        if not isinstance(values, list) or not values:
            raise _no_schema("has a choice of nothing")
        return values[self._next(len(values))]

    def _word(self) -> str:
        return _WORDS[self._next(len(_WORDS))]

    def _next(self, count: int) -> int:
        self._state = (self._state * 1_103_515_245 + 12_345) % 2**31
        return (self._state >> 16) % count


def _bounds(schema: Mapping[str, Any], step: float) -> tuple[float, float]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = max(low if low is not None else -math.inf, schema["exclusiveMinimum"] + step)
    if "exclusiveMaximum" in schema:
        high = min(high if high is not None else math.inf, schema["exclusiveMaximum"] - step)
    if low is None:
        low = 0 if high is None or high >= 0 else high - 100 * step
    return low, high if high is not None else low + 100 * step


def _no_schema(problem: str) -> Exception:
    return invalid_response_format("The JSON Schema is none.", problem)
