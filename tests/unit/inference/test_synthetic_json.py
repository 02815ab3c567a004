"""Values that the synthetic engine draws from schemas are what the schemas describe, by a validator of others."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.engines.synthetic_json import UnknownFormError, draw, parse_schema
from services.runtime.errors import DomainError, Reason

NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "n": {"type": "integer"}}}
SCHEMAS: list[dict[str, Any]] = [
    {},
    {"type": "null"},
    {"type": ["null", "integer"]},
    {"const": {"a": [1, 2]}},
    {"enum": [1, "two", None]},
    {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
    {"type": "integer", "minimum": -7, "maximum": -2, "multipleOf": 3},
    {"type": "number", "minimum": 0.25, "maximum": 0.75},
    {"type": "integer", "maximum": -3},
    {"type": "string", "minLength": 30, "maxLength": 31},
    {"type": "string", "maxLength": 1},
    {"type": "string", "format": "uuid"},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    {"type": "array", "maxItems": 0},
    {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": {"type": "string"}},
    {"anyOf": [{"type": "string", "pattern": "^a+$"}, {"type": "integer"}]},
    {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "b"]},
    {"type": "object", "required": ["x"], "additionalProperties": {"type": "integer"}},
    {"$defs": {"node": NODE}, "$ref": "#/$defs/node"},
    {"type": "object", "properties": {"p": {"oneOf": [{"const": "a"}, {"const": "b"}]}}, "required": ["p"]},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
@given(seed=st.integers(0, 2**32))
def test_what_is_drawn_is_valid(schema: dict[str, Any], seed: int) -> None:
    text = draw(schema, seed)
    jsonschema.validate(json.loads(text), schema)
    assert draw(schema, seed) == text


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^a+$"},
        {"type": "array", "uniqueItems": True},
        {"not": {}},
        {"type": "string", "minLength": 3, "maxLength": 2},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "object", "required": ["a"], "additionalProperties": False},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    ],
    ids=json.dumps,
)
def test_what_cannot_be_drawn_is_said(schema: dict[str, Any]) -> None:
    with pytest.raises(UnknownFormError):
        draw(schema, 1)


@pytest.mark.parametrize("text", ["", "[]", "true", '{"type": "nonsense"}', '{"$ref": "#/nowhere"}', '{"anyOf": []}'])
def test_what_is_no_schema_is_said(text: str) -> None:
    with pytest.raises(DomainError) as caught:
        draw(parse_schema(text), 1)
    assert caught.value.reason is Reason.INVALID_FIELD
