"""Settings files: YAML, checked against a pydantic model, refused with a text that says where and why."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from services.runtime.settings import SettingsError

ModelT = TypeVar("ModelT", bound=BaseModel)


def load_typed_file(path: Path, model: type[ModelT], *, kind: str) -> ModelT:
    """Read a file of one kind, such as "policy", as its model.

    Raises:
        SettingsError: naming the file, the place in it, and what is wrong there.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{kind} file {path} cannot be read: {error}") from error
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise SettingsError(f"{kind} file {path} is not YAML: {error}") from error
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{_place(problem['loc'])}{what_is_wrong(problem)}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise SettingsError(f"{kind} file {path}: {problems}") from error


def what_is_wrong(problem: ErrorDetails) -> str:
    """One of pydantic's complaints in the words of whoever wrote the file, without the value."""
    if problem["type"] == "extra_forbidden":
        return "there is no such key; is it misspelt?"
    return problem["msg"].removeprefix("Value error, ")


def parse_yaml(text: str) -> Any:
    """What a YAML text holds. Whatever is wrong with it is one error: a bad file must not end who reads it again.

    Raises:
        ValueError: saying what is wrong. Also a value such as 2024-99-99, which looks like a date and is none.
    """
    try:
        return yaml.load(text, Loader=UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


class UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets the last of two equal keys win in silence, so one of two entries would be gone without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping whose keys differ."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key_node.value!r} stands here twice", key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _place(path: tuple[int | str, ...]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
    return f"{text}: " if text else ""
