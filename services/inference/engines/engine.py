"""What every engine does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from services.inference.model import Capability, Embeddings, EngineStats, GenerationRequest, Sink, TokenCounts
from services.runtime.errors import DomainError, FieldViolation, Reason
from services.runtime.model_registry import ModelEntry
from services.runtime.settings import SettingsError
from services.runtime.typed_file import what_is_wrong

OptionsT = TypeVar("OptionsT", bound=BaseModel)


class Engine(Protocol):
    """Runs one model. Everything is called on the event loop, and every sink is called there.

    There is a callback per generation and no iterator: at thousands of tokens per second a task switch per token is
    what would cost most.
    """

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do with this model; final once it has started. What is not here is never asked of it."""
        ...

    async def start(self) -> None:
        """Load the model.

        Raises:
            SettingsError: naming what is missing and how to get it.
        """
        ...

    def submit(self, request: GenerationRequest, sink: Sink) -> None:
        """Begin a generation. Whatever happens, its sink gets exactly one delta with an `end`, as its last."""
        ...

    def cancel(self, key: int) -> None:
        """End a generation within an engine step; its sink gets the end at once. Unknown keys are ignored."""
        ...

    async def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        """Count the tokens of texts.

        Raises:
            DomainError: ENGINE_FAILED.
        """
        ...

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Turn texts into vectors; only asked of engines with Capability.EMBEDDINGS.

        Raises:
            DomainError: ENGINE_FAILED.
        """
        ...

    def stats(self) -> EngineStats:
        """What it says about itself now; asked once a second or so, and must not wait for anything."""
        ...

    async def check(self) -> None:
        """Return when the engine works.

        Raises:
            DomainError: ENGINE_FAILED.
        """
        ...

    async def close(self) -> None:
        """Cancel all generations and unload the model."""
        ...


def read_options(entry: ModelEntry, options_type: type[OptionsT]) -> OptionsT:
    """The entry's `engine_options` as the engine's own type.

    Raises:
        SettingsError: naming the model and each option that is wrong.
    """
    try:
        return options_type.model_validate(entry.engine_options)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {what_is_wrong(problem)}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise SettingsError(f"model {entry.name}, engine_options: {problems}") from error


def engine_failed(model: str, message: str) -> DomainError:
    """The engine stopped before the answer was complete."""
    return DomainError(Reason.ENGINE_FAILED, message, metadata={"model": model})


def context_length_exceeded(model: str, *, context_length: int, prompt_tokens: int) -> DomainError:
    """The prompt does not fit."""
    return DomainError(
        Reason.CONTEXT_LENGTH_EXCEEDED,
        f"The prompt has {prompt_tokens} tokens; {model} has room for {context_length} with the answer.",
        metadata={"model": model, "context_length": str(context_length), "prompt_tokens": str(prompt_tokens)},
    )


def unsupported_response_format(model: str, message: str) -> DomainError:
    """The answer cannot be held to the form that was asked for."""
    return DomainError(Reason.UNSUPPORTED_RESPONSE_FORMAT, message, metadata={"model": model})


def unsupported_capability(model: str, capability: Capability) -> DomainError:
    """The model cannot do what was asked of it."""
    return DomainError(
        Reason.UNSUPPORTED_CAPABILITY,
        f"{model} cannot do {capability.value}; choose a model that can, or leave it out.",
        metadata={"model": model, "capability": capability.value},
    )


def check_biases(biases: Iterable[tuple[int, float]], *, vocabulary_size: int) -> None:
    """Pass when all biases are of tokens that the model has.

    Raises:
        DomainError: INVALID_FIELD.
    """
    if not all(0 <= token < vocabulary_size for token, _ in biases):
        raise DomainError(
            Reason.INVALID_FIELD,
            "logit_bias names a token that the model does not have.",
            fields=[FieldViolation("sampling.logit_bias", f"token ids must be 0 to {vocabulary_size - 1}")],
        )


def invalid_response_format(message: str, problem: str) -> DomainError:
    """The form that was asked for is none."""
    fields = [FieldViolation("sampling.response_format", problem)]
    return DomainError(Reason.INVALID_FIELD, message, fields=fields)
