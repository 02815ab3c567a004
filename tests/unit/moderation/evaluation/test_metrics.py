"""The figures against values computed by hand, and against their definitions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.moderation.evaluation import metrics
from services.moderation.evaluation.metrics import Counts, Floats, Ranked

# Few different scores, so that ties are common.
rows = st.lists(st.tuples(st.booleans(), st.integers(0, 6).map(lambda step: step / 6)), max_size=30)
both = rows.filter(lambda given: {truth for truth, _ in given} == {True, False})
rates = st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.29, 0.5, 1.0])


def columns(given: list[tuple[bool, float]]) -> tuple[list[bool], list[float]]:
    return [truth for truth, _ in given], [score for _, score in given]


def test_counts_by_hand() -> None:
    counts = Counts.of([1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0])
    assert counts == Counts(true_positives=2, false_positives=1, true_negatives=4, false_negatives=1)
    assert (counts.safe, counts.unsafe, counts.flagged) == (5, 3, 3)
    assert counts.accuracy == 6 / 8
    assert counts.precision == 2 / 3
    assert counts.recall == 2 / 3
    assert counts.f1 == 2 / 3
    assert counts.false_positive_rate == 1 / 5


def test_counts_of_one_kind_only() -> None:
    assert math.isnan(Counts.of([0, 0], [0, 0]).recall)
    assert math.isnan(Counts.of([1, 1], [0, 0]).precision)
    assert Counts.of([1, 1], [0, 0]).f1 == 0
    assert math.isnan(Counts.of([0, 0], [0, 1]).f1)
    assert math.isnan(Counts.of([], []).accuracy)


def test_roc_auc_by_hand() -> None:
    assert metrics.roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert metrics.roc_auc([1, 0, 0], [0.5, 0.5, 0.2]) == 0.75, "a tie is half a win"
    assert metrics.roc_auc([1, 0], [0.5, 0.5]) == 0.5
    assert math.isnan(metrics.roc_auc([0, 0], [0.1, 0.2]))
    assert math.isnan(metrics.roc_auc([], []))


@given(both)
def test_roc_auc_is_the_chance_of_the_right_order(given_rows: list[tuple[bool, float]]) -> None:
    unsafe = [score for truth, score in given_rows if truth]
    safe = [score for truth, score in given_rows if not truth]
    won = sum((high > low) + (high == low) / 2 for high in unsafe for low in safe)
    assert metrics.roc_auc(*columns(given_rows)) == pytest.approx(won / len(unsafe) / len(safe))


@given(both)
def test_roc_auc_of_the_opposite_is_the_rest(given_rows: list[tuple[bool, float]]) -> None:
    truths, scores = columns(given_rows)
    assert metrics.roc_auc(truths, scores) + metrics.roc_auc([not truth for truth in truths], scores) == pytest.approx(
        1
    )


def test_average_precision_by_hand() -> None:
    assert metrics.average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == pytest.approx(5 / 6)
    assert metrics.average_precision([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert metrics.average_precision([1, 1], [0.3, 0.2]) == 1
    assert math.isnan(metrics.average_precision([0, 0], [0.3, 0.2]))


@given(both)
def test_average_precision_by_its_definition(given_rows: list[tuple[bool, float]]) -> None:
    truths, scores = columns(given_rows)
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        counts = Counts.of(truths, [score >= threshold for score in scores])
        total += (counts.recall - before) * counts.precision
        before = counts.recall
    assert metrics.average_precision(truths, scores) == pytest.approx(total)


def test_recall_at_a_false_positive_rate_by_hand() -> None:
    truths = [0] * 10 + [1] * 4
    scores = [i / 10 for i in range(10)] + [0.95, 0.85, 0.9, 0.05]
    assert metrics.recall_at_fpr(truths, scores, 0.0) == 1 / 4, "0.9 is also the score of a safe text"
    assert metrics.recall_at_fpr(truths, scores, 0.1) == 3 / 4
    assert metrics.recall_at_fpr(truths, scores, 0.09) == 1 / 4
    assert metrics.recall_at_fpr(truths, scores, 1.0) == 1
    assert math.isnan(metrics.recall_at_fpr([1, 1], [0.1, 0.2], 0.01))


@given(both, rates)
def test_recall_at_a_rate_is_that_of_the_threshold_at_it(given_rows: list[tuple[bool, float]], rate: float) -> None:
    truths, scores = columns(given_rows)
    threshold = metrics.threshold_at_fpr([score for truth, score in given_rows if not truth], rate)
    counts = Counts.of(truths, [score >= threshold for score in scores])
    assert counts.false_positive_rate <= rate + 1e-9
    if rate < 1:
        # At 1 the threshold need not lie below the lowest score of a safe text.
        assert metrics.recall_at_fpr(truths, scores, rate) == pytest.approx(counts.recall)


@given(st.lists(st.integers(0, 9).map(lambda step: step / 9), min_size=1), rates)
def test_a_lower_threshold_flags_too_much(scores: list[float], rate: float) -> None:
    threshold = metrics.threshold_at_fpr(scores, rate)
    lower = np.nextafter(threshold, -math.inf)
    if rate < 1:
        assert np.mean(np.array(scores) >= lower) > rate


def test_a_rate_is_not_lost_to_floating_point() -> None:
    scores = [i / 100 for i in range(100)]
    assert np.sum(np.array(scores) >= metrics.threshold_at_fpr(scores, 0.29)) == 29


def test_no_threshold_without_scores() -> None:
    with pytest.raises(ValueError, match="without scores"):
        metrics.threshold_at_fpr([], 0.01)


def test_wilson_by_hand() -> None:
    half = metrics.wilson(5, 10)
    assert (half.low, half.high) == pytest.approx((0.236593, 0.763407), abs=1e-6)
    none = metrics.wilson(0, 10)
    assert (none.low, none.high) == pytest.approx((0, 0.277533), abs=1e-6)
    many = metrics.wilson(950, 1000)
    assert (many.low, many.high) == pytest.approx((0.934691, 0.961870), abs=1e-4)
    assert math.isnan(metrics.wilson(0, 0).low)


@given(st.integers(1, 500).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_wilson_holds_the_share(case: tuple[int, int]) -> None:
    successes, trials = case
    interval = metrics.wilson(successes, trials)
    assert 0 <= interval.low <= successes / trials <= interval.high <= 1
    wider = metrics.wilson(successes / 10, trials / 10)
    assert wider.high - wider.low > interval.high - interval.low


def test_effective_size_counts_copies_once() -> None:
    assert metrics.effective_size([0, 1, 2, 3]) == 4
    assert metrics.effective_size([0, 0, 1, 1]) == 2
    assert metrics.effective_size([0, 0, 0, 1]) == 1.6
    assert metrics.effective_size([]) == 0
    single, copied = (
        metrics.share_interval([1, 0, 1], [0, 1, 2]),
        metrics.share_interval([1, 1, 0, 0, 1, 1], [*"aabbcc"]),
    )
    assert (single.low, single.high) == pytest.approx((copied.low, copied.high))


def test_clusters_are_numbered_in_order() -> None:
    assert metrics.number_clusters(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]


def test_weights_draw_whole_clusters() -> None:
    clusters = np.array([0, 0, 1, 2, 2, 2])
    chunks = list(metrics.resampled_weights(clusters, resamples=200, seed=1))
    weights = np.concatenate(chunks)
    assert weights.shape == (200, 6)
    assert np.array_equal(weights[:, 0], weights[:, 1])
    assert np.array_equal(weights[:, 3], weights[:, 5])
    assert np.all(weights[:, [0, 2, 3]].sum(axis=1) == 3), "as many clusters as there are"
    assert len(np.unique(weights, axis=0)) == 10, "every way to draw three of three"


@given(both, st.integers(0, 1000))
def test_weights_stand_for_repeated_texts(given_rows: list[tuple[bool, float]], seed: int) -> None:
    truths, scores = columns(given_rows)
    times = np.random.default_rng(seed).integers(0, 4, size=len(truths))
    repeated = np.repeat(truths, times), np.repeat(scores, times)
    weights = times.astype(np.float64)[None, :]
    curve = Ranked(truths, scores).curve(weights)
    flagged = np.array(scores) >= 0.5
    for weighted, plain in (
        (curve.roc_auc()[0], metrics.roc_auc(*repeated)),
        (curve.average_precision()[0], metrics.average_precision(*repeated)),
        (curve.recall_at_fpr(0.25)[0], metrics.recall_at_fpr(*repeated, 0.25)),
        (metrics.weighted_f1(truths, flagged, weights)[0], Counts.of(repeated[0], repeated[1] >= 0.5).f1),
    ):
        assert weighted == pytest.approx(plain, nan_ok=True)


def roc_of(truths: npt.ArrayLike, scores: npt.ArrayLike) -> Callable[[Floats], list[Floats]]:
    ranked = Ranked(truths, scores)
    return lambda weights: [ranked.curve(weights).roc_auc()]


def test_bootstrap_holds_the_figure_and_repeats() -> None:
    generator = np.random.default_rng(5)
    truths = generator.random(400) < 0.4
    scores = np.clip(generator.normal(0.4 + 0.2 * truths, 0.2), 0, 1)
    figures, clusters = roc_of(truths, scores), np.arange(400)
    [first] = metrics.bootstrap(figures, clusters, resamples=500, seed=3)
    [again] = metrics.bootstrap(figures, clusters, resamples=500, seed=3)
    assert first == again
    assert first.low < metrics.roc_auc(truths, scores) < first.high
    assert 0.05 < first.high - first.low < 0.15
    [coarse] = metrics.bootstrap(figures, clusters // 20, resamples=500, seed=3)
    assert coarse != first


def test_copies_do_not_make_it_more_certain() -> None:
    truths, scores = [1, 0, 1, 0, 1, 0, 0, 1], [0.9, 0.1, 0.4, 0.5, 0.8, 0.2, 0.6, 0.7]
    copied = roc_of(np.repeat(truths, 50), np.repeat(scores, 50))
    assert metrics.bootstrap(roc_of(truths, scores), np.arange(8)) == metrics.bootstrap(
        copied, np.repeat(np.arange(8), 50)
    )


def test_bootstrap_of_what_cannot_be_computed() -> None:
    [interval] = metrics.bootstrap(roc_of([0, 0], [0.1, 0.2]), [0, 1], resamples=20)
    assert math.isnan(interval.low)
    [empty] = metrics.bootstrap(roc_of([], []), [], resamples=20)
    assert math.isnan(empty.high)


def test_chunks_do_not_change_the_number_of_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_CHUNK_VALUES", 7)
    weights = list(metrics.resampled_weights([0, 1, 2], resamples=11, seed=0))
    assert [len(chunk) for chunk in weights] == [2, 2, 2, 2, 2, 1]


def test_reliability_by_hand() -> None:
    bins = metrics.reliability([0, 1, 1, 1], [0.05, 0.15, 0.95, 1.0], bins=10)
    assert [(one.low, one.count, one.share_unsafe) for one in bins] == [(0.0, 1, 0.0), (0.1, 1, 1.0), (0.9, 2, 1.0)]
    assert bins[2].mean_probability == pytest.approx(0.975)
    assert metrics.expected_calibration_error([0, 1, 1, 1], [0.05, 0.15, 0.95, 1.0], bins=10) == pytest.approx(
        (0.05 + 0.85 + 2 * 0.025) / 4
    )
    assert metrics.brier([0, 1], [0.5, 0.8]) == pytest.approx((0.25 + 0.04) / 2)


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        metrics.reliability([0], [1.5])
    with pytest.raises(ValueError, match="not a number"):
        Ranked([0], [math.nan])
    with pytest.raises(ValueError, match="do not go together"):
        Ranked([0, 1], [0.5])
