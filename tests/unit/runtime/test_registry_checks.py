"""What must hold between the parts of a models file, and what the refusals say."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.model_registry import ModelRegistry
from services.runtime.registry_checks import problems_of, targets_of
from services.runtime.settings import SettingsError

ORIGIN = Path("/etc/chatmesh/models.yaml")

FILE = """
models:
  - {name: small, engine: synthetic, context_length: 100, max_output_tokens: 50, pools: [cpu], fallbacks: [medium]}
  - {name: medium, engine: synthetic, context_length: 100, max_output_tokens: 50, fallbacks: [large]}
  - {name: large, engine: synthetic, context_length: 100, max_output_tokens: 50}
  - {name: inner, engine: synthetic, context_length: 100, max_output_tokens: 50, tiers: [staff]}
  - {name: embedder, engine: minilm, path: m.st, context_length: 100, max_output_tokens: 1}
aliases:
  best: [large, medium]
auto:
  auto:
    models: [small, medium, large]
    examples: {code: [write a program]}
    embedding_model: embedder
    cascade: {first: small, then: best, min_mean_logprob: -1.5}
pools:
  cpu: {spill_over_at: 1.5}
residencies:
  eu: [eu-west-1]
tiers:
  pro: {priority: high}
experiments:
  - name: one
    alias: auto
    share: 0.5
    group: models
    arms: [{name: control, weight: 1}, {name: large, weight: 1, model: large}]
  - name: two
    alias: auto
    share: 0.5
    group: models
    arms: [{name: control, weight: 1}, {name: best, weight: 1, model: best}]
shadows:
  - {name: copy, alias: auto, to: medium, share: 0.1}
"""


def changed(**paths: object) -> ModelRegistry:
    """The sound file with other values at some places, such as `auto__auto__models`."""
    content: dict[str, Any] = copy.deepcopy(yaml.safe_load(FILE))
    for path, value in paths.items():
        steps = [int(step) if step.isdigit() else step for step in path.split("__")]
        place: Any = content
        for step in steps[:-1]:
            place = place[step]
        place[steps[-1]] = value
    return ModelRegistry.parse(yaml.safe_dump(content), origin=ORIGIN)


def test_the_file_that_the_cases_change_is_sound() -> None:
    registry = changed()
    assert list(problems_of(registry)) == []
    assert [targets_of(registry, name) for name in ("auto", "best", "small", "none")] == [
        ["small", "medium", "large"],
        ["large", "medium"],
        ["small"],
        [],
    ]


def test_the_file_that_the_guide_explains_is_sound() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "routing.md").read_text()
    text = guide.partition("```yaml\n")[2].partition("```")[0]
    registry = ModelRegistry.parse(text, origin=ORIGIN)
    assert list(registry.auto) == ["auto"]
    assert registry.experiments
    assert registry.shadows


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"auto": {"small": {"models": ["large"]}}}, "auto 'small' has the name of a model; rename one of them"),
        ({"aliases__auto": ["small"]}, "auto 'auto' also stands under aliases; keep one of them"),
        ({"auto__auto__models": []}, "auto.auto.models: List should have at least 1 item"),
        ({"auto__auto__models": ["small", "small"]}, "auto 'auto' names a model twice"),
        ({"auto__auto__models": ["small", "best"]}, "auto 'auto' chooses from best, which the file does not have"),
        ({"auto__auto__models": ["small", "embedder"]}, "auto 'auto' chooses from embedder, which cannot chat"),
        ({"auto__auto__embedding_model": "large-embedder"}, "embedding_model is large-embedder, which the file does"),
        ({"auto__auto__examples": {}}, "auto 'auto': examples and embedding_model need each other"),
        ({"auto__auto__embedding_model": None}, "auto 'auto': examples and embedding_model need each other"),
        ({"auto__auto__examples": {"code": []}}, "auto 'auto': a class without examples"),
        ({"auto__auto__cascade__first": "inner"}, "first is inner, which is not one of its models; add it to them"),
        ({"auto__auto__cascade__then": "giant"}, "then is giant, which the file does not have; its models and aliases"),
        ({"auto__auto__cascade__then": "small"}, "then is small, which may come to small again"),
        ({"auto__auto__cascade__then": "auto"}, "then is auto, which may come to small again"),
        ({"auto__auto__cascade__min_mean_logprob": None}, "cascade says not when an answer is weak"),
        ({"models__0__pools": ["gpu"]}, "model 'small' is served by the pools gpu, which the file does not have"),
        ({"models__0__pools": ["cpu", "cpu"]}, "model 'small' names a pool twice"),
        ({"models__0__fallbacks": ["giant"]}, "model 'small' falls back to giant, which the file does not have"),
        ({"models__0__fallbacks": ["best"]}, "model 'small' falls back to best, which the file does not have"),
        ({"models__0__fallbacks": ["medium", "medium"]}, "model 'small' names a fallback twice"),
        ({"models__0__fallbacks": ["small"]}, "fallbacks go round: small > small"),
        ({"models__2__fallbacks": ["small"]}, "fallbacks go round: small > medium > large > small"),
        ({"models__0__fallbacks": ["embedder"]}, "model 'small' falls back to embedder, which only embeds"),
        ({"models__4__fallbacks": ["small"]}, "model 'embedder' embeds, and vectors of two models do not compare"),
        ({"residencies__eu": []}, "residency 'eu' has no regions, so nothing could be answered"),
        ({"residencies__eu": ["a", "a"]}, "residency 'eu' names a region twice"),
        ({"experiments__1__name": "one"}, "two experiments have the same name: one"),
        ({"experiments__0__alias": "none"}, "experiment 'one' is on none, which the file does not have"),
        ({"experiments__0__share": 0.6}, "the shares of the experiments of group 'models' add up to 1.1"),
        ({"experiments__0__share": 0.00001}, "experiments[0].share"),
        ({"experiments__0__group": None}, "experiments 'one' and 'two' both choose the model of 'auto'"),
        ({"experiments__0__arms__1__name": "control"}, "experiment 'one' has two arms of the same name"),
        ({"experiments__0__arms__1__model": "giant"}, "experiment 'one': arm 'large' asks giant, which the file"),
        ({"experiments__0__arms__1__model": "auto"}, "arm 'large' asks auto, as without it; leave its model out"),
        ({"experiments__0__arms__1__model": "inner"}, "arm 'large' asks inner, which is not for every tier; set tiers"),
        (
            {"experiments__0__arms__1__model": "inner", "experiments__0__tiers": ["staff", "pro"]},
            "asks inner, which is not for the tier pro",
        ),
        ({"experiments__0__arms": [{"name": "only", "weight": 1}]}, "experiments[0].arms"),
        ({"experiments__0__arms__1__weight": 0}, "experiments[0].arms[1].weight"),
        ({"shadows__0__to": "best"}, "shadow 'copy' goes to best, which is no model of the file"),
        ({"shadows__0__to": "embedder"}, "shadow 'copy' goes to embedder, which cannot chat"),
        ({"shadows__0__alias": "none"}, "shadow 'copy' copies requests for none, which the file does not have"),
        ({"shadows__0__alias": "medium"}, "shadow 'copy' copies requests for medium to itself"),
        ({"shadows__0__share": 2}, "shadows[0].share"),
        ({"tiers__pro__priority": "urgent"}, "tiers.pro.priority"),
    ],
)
def test_what_does_not_fit_together_is_named_with_what_to_do(changes: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        changed(**changes)
    assert str(ORIGIN) in str(refusal.value)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"experiments__0__arms__1__model": "inner", "experiments__0__tiers": ["staff"]},
        {"experiments__0__group": None, "experiments__0__tiers": ["free"], "experiments__1__tiers": ["pro"]},
        {"experiments__0__group": None, "experiments__0__arms__1__model": None},
        {"experiments__0__group": None, "experiments__0__alias": "best"},
        {"auto__auto__examples": {}, "auto__auto__embedding_model": None},
    ],
)
def test_what_fits_together_is_accepted(changes: dict[str, object]) -> None:
    changed(**changes)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as refusal:
        changed(residencies__eu=[], shadows__0__to="giant", models__0__pools=["gpu"])
    for said in ("residency 'eu'", "shadow 'copy'", "the pools gpu"):
        assert said in str(refusal.value)


@given(st.lists(st.lists(st.integers(0, 9), max_size=4, unique=True), min_size=10, max_size=10))
def test_fallbacks_are_refused_exactly_when_they_go_round(edges: list[list[int]]) -> None:
    models = [
        {
            "name": f"m{number}",
            "engine": "synthetic",
            "context_length": 100,
            "max_output_tokens": 50,
            "fallbacks": [f"m{after}" for after in targets],
        }
        for number, targets in enumerate(edges)
    ]
    reach = [set(targets) for targets in edges]
    for _ in edges:
        for targets in reach:
            targets.update(*(reach[target] for target in list(targets)))
    goes_round = any(number in targets for number, targets in enumerate(reach))
    text = yaml.safe_dump({"models": models})
    if goes_round:
        with pytest.raises(SettingsError, match="fallbacks go round"):
            ModelRegistry.parse(text, origin=ORIGIN)
    else:
        ModelRegistry.parse(text, origin=ORIGIN)
