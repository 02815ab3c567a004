"""Which model is taken for a request that leaves the choice to the router."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.router.auto import Prospect, fits, rank, taken
from services.router.classifier import CLASSES, Classification
from services.router.model import ModelScore
from services.runtime.model_registry import ModelEntry
from services.runtime.routing_policy import Prices, RequestClass


def entry(name: str, quality: float, price: float | None = None, *, context: int = 8192, **skills: float) -> ModelEntry:
    return ModelEntry(
        name=name,
        engine="synthetic",
        context_length=context,
        max_output_tokens=1024,
        quality=quality,
        skills=skills,  # type: ignore[arg-type]
        prices=None if price is None else Prices(input_per_million=price, output_per_million=price),
    )


def request(difficulty: float, kind: RequestClass = "simple") -> Classification:
    return Classification(kind, difficulty, dict.fromkeys(CLASSES, 0.0), True)


def chosen(*prospects: Prospect, at: Classification, wait_cost: float = 0.0005) -> tuple[list[str], dict[str, str]]:
    order, scores = rank(prospects, classification=at, prompt_characters=400, wait_cost_per_s=wait_cost)
    return [found.name for found in order], {score.model: score.reason for score in scores}


SMALL, MEDIUM, LARGE = entry("small", 0.3, 0.1), entry("medium", 0.6, 1.0), entry("large", 0.9, 10.0)
ALL = [Prospect(LARGE, 20), Prospect(SMALL, 20), Prospect(MEDIUM, 20)]


def test_the_cheapest_that_is_good_enough() -> None:
    assert chosen(*ALL, at=request(0.1)) == (
        ["small", "medium", "large"],
        {"small": "", "medium": "price", "large": "price"},
    )
    assert chosen(*ALL, at=request(0.5)) == (
        ["medium", "large", "small"],
        {"medium": "", "large": "price", "small": "too_weak"},
    )
    assert chosen(*ALL, at=request(0.7))[0][0] == "large"


def test_the_best_when_none_is_good_enough() -> None:
    assert chosen(*ALL, at=request(0.95)) == (
        ["large", "medium", "small"],
        {"large": "", "medium": "too_weak", "small": "too_weak"},
    )


def test_a_skill_counts_for_its_class_only() -> None:
    coder = entry("coder", 0.2, 0.5, code=0.9)
    assert chosen(Prospect(coder, 20), *ALL, at=request(0.8, "code"))[0][0] == "coder"
    assert chosen(Prospect(coder, 20), *ALL, at=request(0.8, "math"))[0][0] == "large"


def test_a_long_queue_outweighs_a_small_price() -> None:
    waits = [Prospect(SMALL, 10_000), Prospect(MEDIUM, 20)]
    assert chosen(*waits, at=request(0.1)) == (["medium", "small"], {"medium": "", "small": "busy"})
    assert chosen(*waits, at=request(0.1), wait_cost=0)[0][0] == "small"


def test_models_without_prices_cost_their_wait() -> None:
    one, other = entry("one", 0.5), entry("other", 0.5)
    assert chosen(Prospect(one, 50), Prospect(other, 20), at=request(0.1))[0] == ["other", "one"]


def test_what_cannot_fit() -> None:
    assert fits(SMALL, prompt_characters=8191 * 4)
    assert not fits(SMALL, prompt_characters=8192 * 4)


def test_the_receipt_says_who_could_not_answer_after_all() -> None:
    scores = (
        ModelScore("a", 1.0),
        ModelScore("b", 2.0, "price"),
        ModelScore("c", 3.0, "price"),
        ModelScore("d", 0, "tier"),
    )
    assert [score.reason for score in taken(scores, model="a")] == ["", "price", "price", "tier"]
    assert [score.reason for score in taken(scores, model="b")] == ["no_replica", "", "price", "tier"]
    assert [score.reason for score in taken(scores, model="fallback")] == [*["no_replica"] * 3, "tier"]


qualities = st.floats(0, 1)
prospects = st.lists(
    st.tuples(qualities, st.none() | st.floats(0, 100), st.floats(0, 60_000)), min_size=1, max_size=6
).map(
    lambda rows: [
        Prospect(entry(f"m{number}", quality, price), wait) for number, (quality, price, wait) in enumerate(rows)
    ]
)


@given(prospects, qualities, st.sampled_from(CLASSES), st.integers(0, 100_000))
def test_whatever_there_is_the_choice_is_the_cheapest_good_one_or_else_the_best(
    candidates: list[Prospect], difficulty: float, kind: RequestClass, characters: int
) -> None:
    order, scores = rank(
        candidates, classification=request(difficulty, kind), prompt_characters=characters, wait_cost_per_s=0.0005
    )
    cost = {score.model: score.score for score in scores}
    assert {found.name for found in order} == {prospect.entry.name for prospect in candidates}
    assert [score.model for score in scores] == [found.name for found in order]
    assert [score.reason for score in scores].count("") == 1
    good = [prospect.entry for prospect in candidates if prospect.entry.quality >= difficulty]
    if good:
        assert order[0] in good
        assert cost[order[0].name] == min(cost[found.name] for found in good)
    else:
        assert order[0].quality == max(prospect.entry.quality for prospect in candidates)
