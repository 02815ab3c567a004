"""What engines know of the tools of a request."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from services.inference.model import Tool, ToolMode, ToolOptions
from services.runtime.errors import DomainError, FieldViolation, Reason

_ANY_ARGUMENTS = {"type": "object"}


def must_call(tools: ToolOptions | None) -> bool:
    """Whether the answer has to be a call."""
    return tools is not None and (tools.mode is ToolMode.REQUIRED or bool(tools.function))


def callable_tools(tools: ToolOptions) -> Sequence[Tool]:
    """The tools that may be called: all, or the one that is named.

    Raises:
        DomainError: INVALID_FIELD for a name that none of them has.
    """
    chosen = [tool for tool in tools.tools if tools.function in ("", tool.name)]
    if not chosen:
        raise DomainError(
            Reason.INVALID_FIELD,
            "The function that must be called is none of the tools.",
            fields=[FieldViolation("tools.function", "must be the name of one of the tools")],
        )
    return chosen


def parameters_of(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, which are an object.

    Raises:
        DomainError: INVALID_FIELD when it is none.
    """
    if not tool.parameters.strip():
        return dict(_ANY_ARGUMENTS)
    try:
        schema = json.loads(tool.parameters)
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, dict):
        raise refused_parameters()
    return schema if schema.keys() & {"type", "anyOf", "oneOf", "$ref", "const", "enum"} else _ANY_ARGUMENTS | schema


def refused_parameters() -> DomainError:
    """A call cannot be held to a tool's schema."""
    return DomainError(
        Reason.INVALID_FIELD,
        "The parameters of a tool cannot be held to.",
        fields=[
            FieldViolation(
                "tools.parameters", "must be a JSON Schema of an object, written as JSON, that the engine can follow"
            )
        ],
    )
