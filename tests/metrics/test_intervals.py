from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bayfed.errors import DataError, NumericalError
from bayfed.metrics import Interval, mean_interval, paired_interval

draws = st.lists(st.floats(-1, 1), min_size=1, max_size=4)
units = st.lists(st.tuples(draws, draws), min_size=2, max_size=8)


@settings(max_examples=50, deadline=None)
@given(units)
def test_paired_interval_is_that_of_the_paired_t_test(pairs) -> None:
    before = {str(i): pair[0] for i, pair in enumerate(pairs)}
    after = {str(i): pair[1] for i, pair in enumerate(pairs)}
    difference = [np.mean(b) - np.mean(a) for a, b in pairs]
    interval = paired_interval(before, after)
    assert interval.n == len(pairs)
    assert interval.mean == pytest.approx(np.mean(difference))
    if np.std(difference) > 1e-6:
        reference = stats.ttest_1samp(difference, 0.0).confidence_interval(0.95)
        assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high))


@settings(max_examples=50, deadline=None)
@given(units)
def test_draws_of_a_unit_do_not_narrow_the_interval(pairs) -> None:
    once = {str(i): pair[0] for i, pair in enumerate(pairs)}
    thrice = {unit: values * 3 for unit, values in once.items()}
    a, b = mean_interval(once), mean_interval(thrice)
    assert (a.mean, a.low, a.high) == pytest.approx((b.mean, b.low, b.high), abs=1e-12)


def test_mean_interval_in_closed_form() -> None:
    interval = mean_interval({"a": [1.0], "b": [2.0, 4.0], "c": [2.0]})
    half = 4.302652729911275 * 1.0 / math.sqrt(3)  # t of 2 degrees of freedom, s = 1
    assert (interval.low, interval.high) == pytest.approx((2 - half, 2 + half))


def test_pairing_is_by_name_not_by_position() -> None:
    interval = paired_interval({"a": [0.0], "b": [1.0]}, {"b": [1.5], "a": [0.5]})
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.5, 0.5, 0.5))


def test_fewer_than_two_units_have_no_interval() -> None:
    one, none = mean_interval({"a": [0.5]}), mean_interval({})
    assert one.mean == 0.5
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert math.isnan(none.mean)
    assert not one.excludes_zero


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False)]
)
def test_excludes_zero(low: float, high: float, expected: bool) -> None:
    assert Interval((low + high) / 2, low, high, 3).excludes_zero is expected


def test_bad_input_names_the_unit() -> None:
    with pytest.raises(DataError, match="nut"):
        mean_interval({"nut": []})
    with pytest.raises(DataError, match="tile"):
        paired_interval({"nut": [0.1]}, {"nut": [0.1], "tile": [0.2]})
    with pytest.raises(NumericalError, match="nut"):
        mean_interval({"nut": [math.nan]})
