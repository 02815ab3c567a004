"""Who is in which arm of which experiment, and that they stay there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.router.experiments import Dealing, hash_point
from services.router.shadows import shadows_of
from services.runtime.routing_policy import Arm, Experiment, Shadow

USERS = [f"user-{number}" for number in range(4000)]


def experiment(
    name: str, *weights: float, share: float = 1.0, group: str | None = None, tiers: Sequence[str] = ()
) -> Experiment:
    arms = [Arm(name=f"arm{number}", weight=weight) for number, weight in enumerate(weights or (1, 1))]
    return Experiment(name=name, alias="auto", share=share, group=group, tiers=list(tiers), arms=arms)


def places(*experiments: Experiment) -> dict[str, dict[str, str]]:
    """The arm of every user, by experiment."""
    dealing = Dealing(experiments)
    return {
        user: {arm.experiment: arm.arm for arm in dealing.arms(alias="auto", user_id=user, tier="free")}
        for user in USERS
    }


def test_shares_and_weights_are_kept() -> None:
    dealt = places(experiment("one", 1, 3, share=0.4))
    counted = Counter(arms.get("one") for arms in dealt.values())
    # Four standard deviations of a fair draw.
    assert counted[None] == pytest.approx(2400, abs=125)
    assert counted["arm0"] == pytest.approx(400, abs=80)
    assert counted["arm1"] == pytest.approx(1200, abs=120)


def test_no_user_is_in_two_experiments_of_a_group() -> None:
    dealt = places(*(experiment(name, share=0.3, group="g") for name in ("one", "two", "three")))
    assert max(len(arms) for arms in dealt.values()) == 1
    counted = Counter(name for arms in dealt.values() for name in arms)
    assert all(count == pytest.approx(1200, abs=120) for count in counted.values())
    assert len(counted) == 3


def test_experiments_without_a_group_do_not_know_of_each_other() -> None:
    dealt = places(experiment("one", share=0.5), experiment("two", share=0.5))
    both = sum(1 for arms in dealt.values() if len(arms) == 2)
    assert both == pytest.approx(1000, abs=110)


def test_a_group_that_is_shared_out_has_everybody() -> None:
    dealt = places(*(experiment(name, share=0.25, group="g") for name in ("a", "b", "c", "d")))
    assert all(len(arms) == 1 for arms in dealt.values())


def test_an_experiment_that_is_added_at_the_end_moves_nobody() -> None:
    first = [experiment("one", share=0.3, group="g"), experiment("two", share=0.3, group="g")]
    before = places(*first)
    after = places(*first, experiment("three", share=0.4, group="g"))
    assert all(after[user] == arms for user, arms in before.items() if arms)


def test_an_experiment_that_is_ended_moves_few() -> None:
    one, two = experiment("one", share=0.3, group="g"), experiment("two", share=0.3, group="g")
    before, after = places(one, two), places(two)
    left = sum(1 for user in USERS if "two" in before[user] and "two" not in after[user])
    # As many as the other one had of the group. Laid end to end, all 1200 would have been moved.
    assert left == pytest.approx(360, abs=75)
    both = [user for user in USERS if "two" in before[user] and "two" in after[user]]
    assert all(before[user] == after[user] for user in both)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=5), st.floats(0.1, 10))
def test_an_arm_that_is_added_takes_users_and_moves_none_between_the_others(weights: list[float], more: float) -> None:
    before, after = Dealing([experiment("one", *weights)]), Dealing([experiment("one", *weights, more)])
    added = f"arm{len(weights)}"
    for user in USERS[:300]:
        (old,) = before.arms(alias="auto", user_id=user, tier="")
        (new,) = after.arms(alias="auto", user_id=user, tier="")
        assert new.arm in {old.arm, added}


@given(st.text(min_size=1), st.text())
def test_the_same_user_is_always_dealt_the_same(user: str, tier: str) -> None:
    experiments = [experiment("one", 1, 2, share=0.7), experiment("two", 3, 1, share=0.2)]
    one, other = Dealing(experiments), Dealing(list(reversed(experiments)))
    dealt = one.arms(alias="auto", user_id=user, tier=tier)
    assert set(dealt) == set(other.arms(alias="auto", user_id=user, tier=tier))


def test_who_takes_no_part() -> None:
    dealing = Dealing([experiment("one", tiers=["pro"])])
    assert dealing.arms(alias="auto", user_id="u", tier="pro")
    assert dealing.arms(alias="auto", user_id="u", tier="free") == ()
    assert dealing.arms(alias="best", user_id="u", tier="pro") == ()
    assert dealing.arms(alias="auto", user_id="", tier="pro") == ()


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_points_lie_in_their_interval_and_depend_on_where_the_words_end(parts: list[str]) -> None:
    assert 0 <= hash_point(*parts) <= 1
    if len(parts) > 1 and parts[0]:
        assert hash_point(*parts) != hash_point("".join(parts))


def test_shadows_copy_their_share_and_the_same_generations_again() -> None:
    shadow = Shadow(name="copy", alias="auto", to="large", share=0.25)
    every = Shadow(name="every", alias="auto", to="large", share=1.0)
    other = Shadow(name="other", alias="best", to="large", share=1.0)
    copied = [
        [found.name for found in shadows_of([shadow, every, other], alias="auto", generation_id=f"g{number}")]
        for number in range(4000)
    ]
    assert sum("copy" in names for names in copied) == pytest.approx(1000, abs=110)
    assert all("every" in names and "other" not in names for names in copied)
    again = [found.name for found in shadows_of([shadow, every, other], alias="auto", generation_id="g7")]
    assert again == copied[7]
