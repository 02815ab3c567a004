"""Whether a value has the form that the schemas of the suite describe: no more of JSON Schema than they use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from services.inference.conformance.expectation import ConformanceError, expect, quote

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def parse_valid(text: str, schema: Mapping[str, Any]) -> Any:
    """A JSON text as a value that the schema describes.

    Raises:
        ConformanceError: it is not JSON, or not what the schema describes.
    """
    try:
        value = json.loads(text)
    except ValueError:
        raise ConformanceError(f"{quote(text)} is not JSON") from None
    _check(value, schema, "the value")
    return value


def _check(value: Any, schema: Mapping[str, Any], where: str) -> None:
    if "enum" in schema:
        expect(value in schema["enum"], f"{where} is {quote(str(value))}, none of {schema['enum']}")
    kind = schema.get("type")
    if kind is not None:
        right = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
        expect(right, f"{where} is {quote(str(value))}, no {kind}")
    if isinstance(value, dict):
        _check_object(value, schema, where)
    elif isinstance(value, list):
        expect(len(value) >= schema.get("minItems", 0), f"{where} has only {len(value)} items")
        expect(len(value) <= schema.get("maxItems", len(value)), f"{where} has {len(value)} items")
        for item in value:
            _check(item, schema.get("items", {}), f"an item of {where}")
    elif isinstance(value, int | float):
        expect(value >= schema.get("minimum", value), f"{where} is {value}")
        expect(value <= schema.get("maximum", value), f"{where} is {value}")
    elif isinstance(value, str):
        expect(len(value) <= schema.get("maxLength", len(value)), f"{where} has {len(value)} characters")


def _check_object(value: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> None:
    members = schema.get("properties", {})
    lacking = [name for name in schema.get("required", ()) if name not in value]
    expect(not lacking, f"{where} has no {', '.join(lacking)}")
    if schema.get("additionalProperties") is False:
        more = sorted(set(value) - set(members))
        expect(not more, f"{where} has {', '.join(more)} besides")
    for name, member in value.items():
        _check(member, members.get(name, {}), name)
