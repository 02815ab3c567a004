"""Figures of groups: which texts are compared with which, and how sure the figures are."""

from __future__ import annotations

import math

import pytest

from services.moderation.evaluation import metrics
from services.moderation.evaluation.groups import Groups
from services.moderation.evaluation.outcomes import Outcome
from tests.unit.moderation.evaluation.scripted import outcome

OUTCOMES: list[Outcome] = [
    *(outcome("unsafe", score, set="mixed", id=f"mu{score}") for score in (0.9, 0.6, 0.3)),
    *(outcome("safe", score, set="mixed", id=f"ms{score}") for score in (0.7, 0.2, 0.1)),
    *(outcome("unsafe", score, set="bad", id=f"b{score}") for score in (0.95, 0.65)),
    *(outcome("safe", score, set="good", head="benign", id=f"g{score}") for score in (0.4, 0.05)),
    *(outcome("unsafe", score, set="out", kind="output", id=f"ou{score}") for score in (0.8,)),
    *(outcome("safe", score, set="out", kind="output", id=f"os{score}") for score in (0.85,)),
]


def places(name: str) -> list[int]:
    return [at for at, one in enumerate(OUTCOMES) if one.row.set == name]


@pytest.fixture(scope="module")
def groups() -> Groups:
    groups = Groups(OUTCOMES)
    for name in ("mixed", "bad", "good", "out"):
        groups.add(name, places(name))
    groups.add("mixed as a category", places("mixed"), among_own=False)
    groups.add("all", range(len(OUTCOMES)))
    return groups


def test_a_group_of_both_is_ranked_by_itself(groups: Groups) -> None:
    mixed = groups.evaluate(resamples=50, seed=0)["mixed"]
    assert (mixed.safe, mixed.unsafe, mixed.compared) == (3, 3, "own")
    values = {name: figure.value for name, figure in mixed.figures.items()}
    assert values["accuracy"] == pytest.approx(4 / 6)
    assert values["precision"] == pytest.approx(2 / 3)
    assert values["recall"] == pytest.approx(2 / 3)
    assert values["f1"] == pytest.approx(2 / 3)
    assert values["false_positive_rate"] == pytest.approx(1 / 3)
    assert values["roc_auc"] == pytest.approx(7 / 9)
    assert values["pr_auc"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert values["recall_at_1pct_fpr"] == pytest.approx(1 / 3), "only 0.9 lies above all safe texts of the set"
    assert values["recall_at_1pct_benign_fpr"] == pytest.approx(2 / 3), "0.4 is the highest score of a benign prompt"


def test_a_group_of_one_kind_is_ranked_among_the_safe_of_its_direction(groups: Groups) -> None:
    figures = groups.evaluate(resamples=50, seed=0)
    bad, good = figures["bad"], figures["good"]
    assert (bad.compared, good.compared) == ("direction", "none")
    assert bad.figures["roc_auc"].value == pytest.approx(9 / 10), "of five safe inputs one scores above 0.65"
    assert math.isnan(bad.figures["false_positive_rate"].value)
    assert good.figures["false_positive_rate"].value == 0
    assert math.isnan(good.figures["roc_auc"].value)
    assert [name for name, figure in good.figures.items() if not math.isnan(figure.value)] == [
        "accuracy",
        "false_positive_rate",
    ]
    assert figures["mixed as a category"].figures["roc_auc"].value == pytest.approx(12 / 15)


def test_without_benign_prompts_all_safe_texts_stand_for_them(groups: Groups) -> None:
    out = groups.evaluate(resamples=50, seed=0)["out"]
    assert out.figures["recall_at_1pct_benign_fpr"].value == 0
    assert math.isnan(groups.evaluate(resamples=0, seed=0)["all"].figures["recall_at_1pct_benign_fpr"].value), (
        "directions have scores of different meaning"
    )


def test_intervals_hold_their_figures(groups: Groups) -> None:
    figures = groups.evaluate(resamples=400, seed=7)
    for group in figures.values():
        for name, figure in group.figures.items():
            if not math.isnan(figure.value):
                assert figure.interval.low <= figure.value <= figure.interval.high, name
    again = groups.evaluate(resamples=400, seed=7)
    assert {name: group.as_json() for name, group in figures.items()} == {
        name: group.as_json() for name, group in again.items()
    }


def test_intervals_are_those_of_the_plain_bootstrap() -> None:
    outcomes = [outcome("unsafe" if at % 3 else "safe", ((at * 37) % 100) / 100, id=str(at)) for at in range(60)]
    groups = Groups(outcomes)
    groups.add("all", range(60))
    grouped = groups.evaluate(resamples=300, seed=5)["all"].figures["roc_auc"]
    ranked = metrics.Ranked([one.row.unsafe for one in outcomes], [one.score for one in outcomes])
    [plain] = metrics.bootstrap(lambda weights: [ranked.curve(weights).roc_auc()], range(60), resamples=300, seed=5)
    assert grouped.interval == plain


def test_without_resamples_there_are_no_intervals(groups: Groups) -> None:
    mixed = groups.evaluate(resamples=0, seed=0)["mixed"]
    assert mixed.figures["roc_auc"].value == pytest.approx(7 / 9)
    assert math.isnan(mixed.figures["roc_auc"].interval.low)
    assert not math.isnan(mixed.figures["recall"].interval.low), "Wilson needs none"
    assert mixed.as_json()["roc_auc"] == {"value": 0.777778, "low": None, "high": None}
