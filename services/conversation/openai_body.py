"""The bodies of OpenAI's requests: JSON that is read strictly, and errors that say where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.runtime.errors import DomainError, Reason

BodyT = TypeVar("BodyT", bound=BaseModel)

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
"""Name of a function or of a speaker."""

_TAG_ERRORS = ("union_tag_invalid", "union_tag_not_found")


class Body(BaseModel):
    """Part of a body: a number is a number, and what is not known is refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


def read_object(data: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        DomainError: INVALID_BODY.
    """
    try:
        value = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise invalid("The body is not valid JSON.", "") from error
    if not isinstance(value, dict):
        raise invalid("The body must be a JSON object.", "")
    if b"\\u0000" in data:
        _refuse_nul(value, "")
    return value


def validated(model: type[BodyT], value: dict[str, Any]) -> BodyT:
    """The value as a model.

    Raises:
        DomainError: INVALID_BODY, or UNSUPPORTED_PARAMETER for one that nobody knows; `param` in the metadata says
            where.
    """
    try:
        return model.model_validate(value)
    except ValidationError as errors:
        # Of the members of a union, the one that was meant is the one that was understood furthest, or is of this type.
        problems = errors.errors(include_url=False, include_input=False)
        problem = max(
            problems, key=lambda problem: (len(_path(problem["loc"], value)), not problem["type"].endswith("_type"))
        )
        path = _path(problem["loc"], value)
        if problem["type"] in _TAG_ERRORS:
            path.append(problem["ctx"]["discriminator"].strip("'"))
        where = ".".join(path)
        if problem["type"] == "extra_forbidden":
            raise DomainError(
                Reason.UNSUPPORTED_PARAMETER,
                f"Unrecognized request argument supplied: {where}.",
                metadata={"param": where},
            ) from errors
        raise invalid(f"{where}: {problem['msg']}.", where) from errors


def invalid(message: str, param: str) -> DomainError:
    """A parameter that makes no sense; an empty name for the body as a whole."""
    return DomainError(Reason.INVALID_BODY, message, metadata={"param": param})


def unsupported(param: str, why: str = "") -> DomainError:
    """A parameter that this server cannot follow; `why` is a half-sentence."""
    message = f"The parameter '{param}' is not supported{f': {why}' if why else ' by this server'}."
    return DomainError(Reason.UNSUPPORTED_PARAMETER, message, metadata={"param": param})


def _refuse_nul(value: Any, path: str) -> None:
    """No text of the mesh may hold NUL: databases do not."""
    if isinstance(value, str) and "\0" in value:
        raise invalid(f"{path}: must not contain NUL characters.", path)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        _refuse_nul(str(name), path)
        _refuse_nul(item, f"{path}.{name}" if path else str(name))


def _path(location: Sequence[int | str], value: Any) -> list[str]:
    """Where in the body: `messages.0.content`. Pydantic also names the type that it tried, which says nothing here."""
    parts: list[str] = []
    for number, part in enumerate(location):
        if _holds(value, part):
            value = value[part]
        elif not (isinstance(value, dict) and number == len(location) - 1 and str(part).isidentifier()):
            # A field that is missing is named, the type that it would have had is not.
            continue
        parts.append(str(part))
    return parts


def _holds(value: Any, part: int | str) -> bool:
    if isinstance(value, list):
        return isinstance(part, int) and part < len(value)
    return isinstance(value, dict) and part in value


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
