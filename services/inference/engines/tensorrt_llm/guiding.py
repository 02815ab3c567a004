"""What an answer is held to: the caller's form, or that of calls of tools."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from typing import Any

from services.inference.engines.engine import invalid_response_format, unsupported_response_format
from services.inference.model import ResponseForm, ResponseFormat, Tool, ToolMode, ToolOptions
from services.runtime.errors import DomainError, FieldViolation, Reason

Guide = dict[str, Any]
"""The one keyword argument of the library's GuidedDecodingParams."""

_ANY_OBJECT = {"type": "object"}
_DEFINITIONS = ("$defs", "definitions")
_MAX_NESTING = 100
"""Of a schema or a grammar: what compiles it recurses, and would take the process with it."""


def guide_of(
    asked: ResponseFormat | None, tools: ToolOptions | None, *, model: str, grammars: bool, backend: str | None
) -> Guide | None:
    """What to hold an answer to; None for free text. Blocks while the form is compiled once, to see that it is one.

    Raises:
        DomainError: UNSUPPORTED_RESPONSE_FORMAT, or INVALID_FIELD for what is no schema or grammar.
    """
    must_call = tools is not None and (tools.mode is ToolMode.REQUIRED or bool(tools.function))
    if asked is None and not must_call:
        return None
    if backend is None:
        raise unsupported_response_format(model, f"{model} cannot hold an answer to a form.")
    if asked is not None and asked.form is ResponseForm.GRAMMAR:
        if not grammars:
            raise unsupported_response_format(model, f"{model} takes no grammars; use a JSON Schema.")
        if tools is not None:
            raise unsupported_response_format(model, f"{model} cannot call tools in an answer with a grammar.")
        guide: Guide = {"grammar": _checked_grammar(asked.text)}
    else:
        guide = _json_guide(asked, tools, must_call=must_call)
    if backend == "xgrammar":
        _try_out(guide)
    return guide


def calls_schema(tools: ToolOptions) -> dict[str, Any]:
    """The JSON Schema of the calls of an answer: a list of them, or one alone."""
    wanted = [tool for tool in tools.tools if not tools.function or tool.name == tools.function]
    definitions: dict[str, Any] = {}
    calls = [_call_schema(tool, place, definitions) for place, tool in enumerate(wanted)]
    call = calls[0] if len(calls) == 1 else {"anyOf": calls}
    schema = call if tools.single_call or tools.function else {"type": "array", "items": call, "minItems": 1}
    return schema | ({"$defs": definitions} if definitions else {})


def _json_guide(asked: ResponseFormat | None, tools: ToolOptions | None, *, must_call: bool) -> Guide:
    form = None if asked is None else _parsed_form(asked)
    if tools is None:
        return {"json": json.dumps(form)}
    schema = calls_schema(tools)
    if form is not None and not must_call:
        definitions = schema.pop("$defs", {})
        schema = {"anyOf": [_embedded(form, "answer", definitions), schema]}
        if definitions:
            schema["$defs"] = definitions
    return {"json": json.dumps(schema)}


def _parsed_form(asked: ResponseFormat) -> dict[str, Any]:
    return _ANY_OBJECT if asked.form is ResponseForm.JSON_OBJECT else _parsed_schema(asked.text)


def _call_schema(tool: Tool, place: int, definitions: dict[str, Any]) -> dict[str, Any]:
    try:
        parameters = json.loads(tool.parameters) if tool.parameters else _ANY_OBJECT
    except (ValueError, RecursionError) as error:
        raise _bad_tool(tool) from error
    if not isinstance(parameters, dict):
        raise _bad_tool(tool)
    return {
        "type": "object",
        "properties": {"name": {"enum": [tool.name]}, "arguments": _embedded(parameters, f"tool{place}", definitions)},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _embedded(schema: dict[str, Any], prefix: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """A schema as a part of another one: what it defines goes to the root, under names of its own."""
    own = {
        f"#/{keyword}/{name}": f"{prefix}.{name}"
        for keyword in _DEFINITIONS
        if isinstance(schema.get(keyword), dict)
        for name in schema[keyword]
    }
    for keyword in _DEFINITIONS:
        for name, definition in (schema.get(keyword) or {}).items():
            definitions[own[f"#/{keyword}/{name}"]] = _redirected(definition, own)
    rest = {key: value for key, value in schema.items() if key not in _DEFINITIONS}
    return dict(_redirected(rest, own))


def _redirected(schema: Any, names: dict[str, str]) -> Any:
    if isinstance(schema, list):
        return [_redirected(part, names) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: f"#/$defs/{names[value]}"
        if key == "$ref" and isinstance(value, str) and value in names
        else _redirected(value, names)
        for key, value in schema.items()
    }


def _parsed_schema(text: str) -> dict[str, Any]:
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid_response_format(
            "The JSON Schema of the response format is not JSON.", "must be a JSON Schema, written as JSON"
        ) from error
    if not isinstance(schema, dict):
        raise invalid_response_format(
            "The JSON Schema of the response format is not an object.", "must be a JSON Schema that is an object"
        )
    if _nesting(text, "[{", "]}") > _MAX_NESTING:
        raise invalid_response_format(
            "The JSON Schema of the response format is nested too deeply.", f"must nest at most {_MAX_NESTING} deep"
        )
    return schema


def _checked_grammar(text: str) -> str:
    if not text.strip() or _nesting(text, "([{", ")]}") > _MAX_NESTING:
        raise invalid_response_format(
            "The grammar of the response format is not GBNF.",
            f"must be a grammar in GBNF that nests at most {_MAX_NESTING} deep",
        )
    return text


def _nesting(text: str, opening: str, closing: str) -> int:
    deepest = depth = 0
    for character in text:
        if character in opening:
            depth += 1
            deepest = max(deepest, depth)
        elif character in closing:
            depth = max(0, depth - 1)
    return deepest


def _try_out(guide: Guide) -> None:
    """Compile it here: on the GPU's side of the library a form that is none can end more than its own request."""
    try:
        grammar = importlib.import_module("xgrammar").Grammar
    except ImportError:
        return
    try:
        if "json" in guide:
            grammar.from_json_schema(guide["json"])
        elif "grammar" in guide:
            grammar.from_ebnf(guide["grammar"])
    except (RuntimeError, ValueError, TypeError) as error:
        # Its text quotes the schema.
        raise refused_form() from error


def refused_form() -> DomainError:
    """The library cannot hold an answer to it."""
    return invalid_response_format(
        "The response format cannot be held to.", "is not one that the engine can parse, or uses what it does not know"
    )


def _bad_tool(tool: Tool) -> DomainError:
    return DomainError(
        Reason.INVALID_FIELD,
        "The parameters of a tool are no JSON Schema.",
        fields=[FieldViolation("tools.parameters", f"of {tool.name}: must be a JSON Schema that is an object")],
    )


def described(tools: Sequence[Tool]) -> str:
    """The tools, for the system message of a model whose template knows none."""
    lines = [
        json.dumps(
            {
                "name": tool.name,
                "description": tool.description,
                "parameters": json.loads(tool.parameters) if tool.parameters else _ANY_OBJECT,
            },
            ensure_ascii=False,
        )
        for tool in tools
    ]
    return (
        "You can call these functions:\n"
        + "\n".join(lines)
        + '\nTo call some of them, answer with nothing but a JSON list such as [{"name": "...", "arguments": {...}}]. '
        "Otherwise answer in plain text."
    )
