from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayfed.errors import DataError, NumericalError
from bayfed.metrics import f1_max, fnr_at, fpr_at, fpr_at_fnr, image_auprc, image_auroc

RANKING = (image_auroc, image_auprc, f1_max, fpr_at_fnr)

few_scores = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12)


def both_classes(good: list[float], bad: list[float]) -> tuple[list[float], list[int]]:
    return good + bad, [0] * len(good) + [1] * len(bad)


@settings(max_examples=50, deadline=None)
@given(few_scores, few_scores)
def test_auroc_counts_pairs_and_halves_ties(good: list[float], bad: list[float]) -> None:
    pairs = [(b > g) + 0.5 * (b == g) for g, b in itertools.product(good, bad)]
    assert image_auroc(*both_classes(good, bad)) == pytest.approx(np.mean(pairs))


@settings(max_examples=50, deadline=None)
@given(few_scores, few_scores)
def test_average_precision_is_the_sum_over_thresholds(good: list[float], bad: list[float]) -> None:
    expected, recalled = 0.0, 0.0
    for threshold in sorted({*good, *bad}, reverse=True):
        true = sum(b >= threshold for b in bad)
        recall = true / len(bad)
        expected += (recall - recalled) * true / (true + sum(g >= threshold for g in good))
        recalled = recall
    assert image_auprc(*both_classes(good, bad)) == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(few_scores, few_scores)
def test_f1_max_tries_every_threshold(good: list[float], bad: list[float]) -> None:
    candidates = []
    for threshold in {*good, *bad}:
        true = sum(b >= threshold for b in bad)
        candidates.append(2 * true / (true + sum(g >= threshold for g in good) + len(bad)))
    assert f1_max(*both_classes(good, bad)) == pytest.approx(max(candidates))


@settings(max_examples=50, deadline=None)
@given(few_scores, st.integers(0, 6))
def test_rates_are_fractions_of_their_class(scores: list[float], threshold: int) -> None:
    called = sum(score >= threshold for score in scores) / len(scores)
    assert fpr_at(threshold, scores) == pytest.approx(called)
    assert fnr_at(threshold, scores) == pytest.approx(1 - called)


@pytest.mark.parametrize("metric", RANKING)
@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_one_class_is_not_applicable(metric, labels: list[int]) -> None:
    assert metric([0.1, 0.2], labels) is None


def test_no_image_is_not_applicable() -> None:
    assert fpr_at(0.5, []) is None
    assert fnr_at(0.5, []) is None
    assert image_auroc([], []) is None


@pytest.mark.parametrize("metric", RANKING)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_must_be_finite(metric, bad: float) -> None:
    with pytest.raises(NumericalError, match="scores"):
        metric([0.1, bad], [0, 1])
    with pytest.raises(NumericalError, match="scores"):
        fpr_at(0.5, [bad])


def test_threshold_must_be_finite() -> None:
    with pytest.raises(NumericalError, match="threshold"):
        fpr_at(np.nan, [0.1])


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, 0.2], [0], "2 values for 1 labels"),
        ([0.1, 0.2], [0, 2], "only 0"),
        ([[0.1, 0.2]], [[0, 1]], "a vector is expected"),
    ],
)
def test_labels_must_fit(scores, labels, message: str) -> None:
    with pytest.raises(DataError, match=message):
        image_auroc(scores, labels)


@settings(max_examples=50, deadline=None)
@given(few_scores, few_scores, st.sampled_from([0.0, 0.1, 0.3, 0.5]))
def test_fpr_at_fnr_is_the_least_over_thresholds_that_miss_no_more(
    good: list[float], bad: list[float], fnr: float
) -> None:
    rates = [
        sum(g >= threshold for g in good) / len(good)
        for threshold in bad
        if sum(b < threshold for b in bad) <= fnr * len(bad) + 1e-9
    ]
    assert fpr_at_fnr(*both_classes(good, bad), fnr) == pytest.approx(min(rates))


def test_a_tenth_of_thirty_defects_is_three() -> None:
    bad = [float(value) for value in range(30)]
    assert fpr_at_fnr([2.5] * 4, [0] * 4) is None
    assert fpr_at_fnr(*both_classes([2.5, 3.5], bad)) == 0.5


@pytest.mark.parametrize("fnr", [-0.1, 1.0])
def test_a_rate_of_missed_defects_is_a_fraction(fnr: float) -> None:
    with pytest.raises(DataError, match="fnr"):
        fpr_at_fnr([0.0, 1.0], [0, 1], fnr)
