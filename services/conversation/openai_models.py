"""OpenAI's list of models as JSON bytes; what the registry knows beside it stands under a key of its own.

https://platform.openai.com/docs/api-reference/models
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from services.conversation.model import Alias
from services.conversation.openai_response import OWN_KEY
from services.conversation.route_model import Model
from services.runtime.errors import DomainError, Reason

OWNER = "chatmesh"


def models_json(models: Sequence[Model], aliases: Sequence[Alias]) -> bytes:
    """The list of models; aliases can be used as models and so are listed as such."""
    return json.dumps({"object": "list", "data": list(_objects(models, aliases).values())}).encode()


def model_json(name: str, models: Sequence[Model], aliases: Sequence[Alias]) -> bytes:
    """One model or alias.

    Raises:
        DomainError: MODEL_NOT_FOUND.
    """
    known = _objects(models, aliases)
    if name not in known:
        raise DomainError(
            Reason.MODEL_NOT_FOUND,
            f"The model '{name}' does not exist.",
            metadata={"model": name, "known_models": ", ".join(sorted(known))},
        )
    return json.dumps(known[name]).encode()


def _objects(models: Sequence[Model], aliases: Sequence[Alias]) -> dict[str, dict[str, Any]]:
    by_name = {model.name: model for model in models}
    newest = max((model.created for model in models), default=0)
    objects = {
        alias.name: _object(alias.name, newest, {"models": [name for name in alias.models if name in by_name]})
        for alias in aliases
    }
    # A model of the same name is what its name stands for.
    return {model.name: _object(model.name, model.created, _details(model)) for model in models} | {
        name: value for name, value in objects.items() if name not in by_name
    }


def _object(name: str, created: int, own: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": OWNER, OWN_KEY: own}


def _details(model: Model) -> dict[str, Any]:
    prices = model.prices
    return {
        "context_length": model.context_length,
        "max_output_tokens": model.max_output_tokens,
        "capabilities": sorted(capability.value for capability in model.capabilities),
        "prices": None
        if prices is None
        else {
            "currency": "USD",
            "per_tokens": 1_000_000,
            "input": prices.input,
            "cached_input": prices.cached_input,
            "output": prices.output,
        },
    }
