"""Which models may answer a request."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from services.router.model import LoadedRegistry
from services.router.selection import select_models
from services.runtime.errors import DomainError, Reason
from services.runtime.model_registry import ModelEntry, ModelRegistry


def entry(name: str, *tiers: str) -> ModelEntry:
    return ModelEntry(name=name, engine="synthetic", context_length=100, max_output_tokens=50, tiers=list(tiers))


def loaded(*entries: ModelEntry, **aliases: list[str]) -> LoadedRegistry:
    return LoadedRegistry(
        registry=ModelRegistry(models=list(entries), aliases=aliases),
        entries={model.name: model for model in entries},
        loaded=datetime(2026, 1, 1, tzinfo=UTC),
    )


REGISTRY = loaded(
    entry("small"), entry("large", "pro"), entry("inner", "staff"), auto=["large", "small"], best=["inner", "large"]
)


@pytest.mark.parametrize(
    ("requested", "tier", "models", "rule"),
    [
        ("small", "free", ["small"], "model"),
        ("large", "pro", ["large"], "model"),
        ("auto", "pro", ["large", "small"], "alias:auto"),
        ("auto", "free", ["small"], "alias:auto"),
        ("auto", "", ["small"], "alias:auto"),
        ("", "free", ["small"], "alias:auto"),
        ("best", "pro", ["large"], "alias:best"),
    ],
)
def test_names_and_aliases(requested: str, tier: str, models: list[str], rule: str) -> None:
    selection = select_models(REGISTRY, requested=requested, tier=tier)
    assert [model.name for model in selection.entries] == models
    assert selection.rule == rule
    assert selection.requested == (requested or "auto")


@pytest.mark.parametrize(("requested", "tier"), [("large", "free"), ("large", ""), ("best", "free")])
def test_what_is_not_for_the_tier_is_refused(requested: str, tier: str) -> None:
    with pytest.raises(DomainError) as refusal:
        select_models(REGISTRY, requested=requested, tier=tier)
    assert refusal.value.reason is Reason.MODEL_NOT_ALLOWED
    assert refusal.value.metadata == {"model": requested, "tier": tier}


def test_an_unknown_name_is_answered_with_the_names_that_the_caller_can_use() -> None:
    with pytest.raises(DomainError) as refusal:
        select_models(REGISTRY, requested="gpt-9", tier="free")
    assert refusal.value.reason is Reason.MODEL_NOT_FOUND
    assert refusal.value.metadata == {"model": "gpt-9", "known_models": "auto, small"}
    assert "auto, small" in refusal.value.message


def test_auto_is_an_alias_like_any_other() -> None:
    with pytest.raises(DomainError) as refusal:
        select_models(loaded(entry("small")), requested="", tier="free")
    assert refusal.value.reason is Reason.MODEL_NOT_FOUND
    assert refusal.value.metadata["model"] == "auto"
