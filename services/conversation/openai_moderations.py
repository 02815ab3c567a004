"""OpenAI's request for moderation, read strictly, and its answer.

https://platform.openai.com/docs/api-reference/moderations/create
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from services.conversation.model import CategoryScore, Classification, Classified
from services.conversation.openai_body import Body, invalid, read_object, unsupported, validated
from services.runtime.clock import new_id
from services.runtime.errors import DomainError, Reason

MAX_TEXTS = 256
MAX_TEXT_CHARACTERS = 200_000
MAX_CHARACTERS = 900_000
"""Of all texts together."""
FAMILY = "chatmesh-moderation"
"""The name of what classifies, whatever its version."""
OPENAI_MODELS = ("omni-moderation-latest", "text-moderation-latest", "text-moderation-stable")
"""OpenAI's names that clients send; they are answered by what is here."""
OPENAI_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""What clients look for. Those that the policy does not tell apart are never found, and apply to no input."""

_NOT_TOLD_APART = CategoryScore(flagged=False, score=0.0)
_Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARACTERS)]


class _TextPart(Body):
    type: Literal["text"]
    text: _Text


class _Request(Body):
    input: (
        _Text
        | Annotated[list[_Text], Field(min_length=1, max_length=MAX_TEXTS)]
        | Annotated[list[_TextPart], Field(min_length=1, max_length=MAX_TEXTS)]
    )
    model: str | None = Field(None, max_length=128)


@dataclass(frozen=True, slots=True)
class ModerationsBody:
    """What is asked; the parts of one text have become one. `model` is empty for whatever there is."""

    texts: tuple[str, ...]
    model: str


def parse_moderations(data: bytes) -> ModerationsBody:
    """Read the body of a request.

    Raises:
        DomainError: INVALID_BODY or UNSUPPORTED_PARAMETER, with `param` in the metadata; MODEL_NOT_FOUND.
    """
    value = read_object(data)
    items = value.get("input")
    if isinstance(items, list):
        for index, item in enumerate(items):
            if isinstance(item, dict) and item.get("type") == "image_url":
                raise unsupported(f"input.{index}.image_url", "only text is looked at here")
    body = validated(_Request, value)
    model = body.model or ""
    if model and model not in OPENAI_MODELS and not _is_own(model):
        raise _unknown(model, FAMILY)
    texts = _texts(body.input)
    if sum(map(len, texts)) > MAX_CHARACTERS:
        raise invalid(f"input: must have at most {MAX_CHARACTERS} characters in all.", "input")
    return ModerationsBody(texts, model)


def moderations_json(asked: ModerationsBody, found: Classified) -> bytes:
    """The judgements as OpenAI's object.

    Raises:
        DomainError: MODEL_NOT_FOUND: another version was asked for than there is.
    """
    model = f"{FAMILY}-{found.classifier_version}"
    if asked.model.startswith(f"{FAMILY}-") and asked.model != model:
        raise _unknown(asked.model, model)
    body = {"id": f"modr-{new_id()}", "model": model, "results": [_result(result) for result in found.results]}
    return json.dumps(body).encode()


def _texts(asked: str | list[str] | list[_TextPart]) -> tuple[str, ...]:
    if isinstance(asked, str):
        return (asked,)
    texts = tuple(item for item in asked if isinstance(item, str))
    # Parts are one input, as OpenAI reads them.
    return texts or ("\n".join(item.text for item in asked if isinstance(item, _TextPart)),)


def _result(found: Classification) -> dict[str, Any]:
    names = [*OPENAI_CATEGORIES, *sorted(found.categories.keys() - set(OPENAI_CATEGORIES))]
    categories = {name: found.categories.get(name, _NOT_TOLD_APART) for name in names}
    return {
        "flagged": found.flagged,
        "categories": {name: category.flagged for name, category in categories.items()},
        "category_scores": {name: category.score for name, category in categories.items()},
        "category_applied_input_types": {name: ["text"] if name in found.categories else [] for name in names},
    }


def _is_own(model: str) -> bool:
    return model == FAMILY or model.startswith(f"{FAMILY}-")


def _unknown(model: str, known: str) -> DomainError:
    return DomainError(
        Reason.MODEL_NOT_FOUND,
        f"The model '{model}' does not exist.",
        metadata={"model": model, "known_models": ", ".join((known, *OPENAI_MODELS))},
    )
