"""Which models may answer a request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from services.router.model import LoadedRegistry, ModelScore
from services.router.selection import Step, fallback_steps, missing_capability, select_models
from services.runtime.errors import DomainError, Reason
from services.runtime.model_registry import ModelEntry, ModelRegistry
from services.runtime.routing_policy import Auto


def entry(name: str, *tiers: str, **more: Any) -> ModelEntry:
    return ModelEntry(
        name=name, engine="synthetic", context_length=100, max_output_tokens=50, tiers=list(tiers), **more
    )


def loaded(*entries: ModelEntry, autos: dict[str, Auto] | None = None, **aliases: list[str]) -> LoadedRegistry:
    return LoadedRegistry(
        registry=ModelRegistry(models=list(entries), aliases=aliases, auto=autos or {}),
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
    assert refusal.value.metadata == {"model": requested, "tier": tier, "known_models": "auto, small"}
    assert refusal.value.message.endswith(" Use one of: auto, small.")


def test_who_may_use_nothing_is_told_no_names() -> None:
    with pytest.raises(DomainError) as refusal:
        select_models(loaded(entry("large", "pro")), requested="large", tier="free")
    assert refusal.value.message == "The model 'large' is not available in the tier 'free'."


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


SKILLED = loaded(
    entry("plain", capabilities=["chat"]),
    entry("tooled", "pro", capabilities=["chat", "tools"]),
    entry("asked"),
    entry("embedder", capabilities=["embeddings"]),
    autos={"auto": Auto(models=["plain", "tooled", "asked"])},
    best=["plain", "tooled"],
)


def reported(model: str) -> frozenset[str] | None:
    return frozenset({"chat", "json"}) if model == "asked" else None


def test_an_alias_leaves_out_what_cannot_do_it() -> None:
    tools = frozenset({"tools"})
    assert [e.name for e in select_models(SKILLED, requested="best", tier="pro", needs=tools).entries] == ["tooled"]
    choice = select_models(SKILLED, requested="auto", tier="free", needs=frozenset({"json"}), reported=reported)
    assert choice.auto is not None
    assert choice.rule == "auto:auto"
    assert [e.name for e in choice.entries] == ["asked"]
    assert choice.refused == (ModelScore("plain", reason="capability"), ModelScore("tooled", reason="tier"))


@pytest.mark.parametrize(
    ("requested", "needs", "capability"),
    [
        ("plain", {"tools"}, "tools"),
        ("best", {"tools"}, "tools"),
        ("asked", {"vision"}, "vision"),
        ("embedder", set(), "chat"),
        ("plain", {"embeddings"}, "embeddings"),
    ],
)
def test_what_a_model_cannot_do_is_refused_by_name(requested: str, needs: set[str], capability: str) -> None:
    with pytest.raises(DomainError) as refusal:
        select_models(SKILLED, requested=requested, tier="free", needs=needs, reported=reported)
    assert refusal.value.reason is Reason.UNSUPPORTED_CAPABILITY
    assert refusal.value.metadata == {"model": requested, "capability": capability}


def test_what_nobody_says_is_not_refused() -> None:
    assert missing_capability(SKILLED.entries["asked"], {"vision"}, lambda _: None) == ""
    assert missing_capability(SKILLED.entries["asked"], {"vision"}, reported) == "vision"


CHAIN = loaded(
    entry("a", fallbacks=["b", "c"]),
    entry("b", "pro", fallbacks=["d"]),
    entry("c", capabilities=["chat"], fallbacks=["d", "e"]),
    entry("d"),
    entry("e"),
)


def chain(tier: str, *needs: str) -> list[tuple[str, str]]:
    steps = [Step(CHAIN.entries["a"], "model")]
    found = fallback_steps(CHAIN, steps, tier=tier, needs=frozenset(needs), reported=lambda _: None)
    return [(step.entry.name, step.rule) for step in found]


def test_nearer_fallbacks_come_first_and_the_rule_shows_the_way() -> None:
    assert chain("pro") == [
        ("b", "model/fallback:b"),
        ("c", "model/fallback:c"),
        ("d", "model/fallback:b/fallback:d"),
        ("e", "model/fallback:c/fallback:e"),
    ]


def test_a_fallback_must_be_allowed_and_able_but_leads_on_all_the_same() -> None:
    assert [name for name, _ in chain("free")] == ["c", "d", "e"]
    assert [name for name, _ in chain("free", "tools")] == ["d", "e"]
