from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayfed.errors import DataError, NumericalError
from bayfed.metrics import coverage, expected_calibration_error, ks_uniform
from bayfed.metrics.calibration import GRID, LEVELS
from bayfed.seeds import stream

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@settings(max_examples=50, deadline=None)
@given(p_values, st.sampled_from(LEVELS))
def test_coverage_counts_the_accepted(p: list[float], level: float) -> None:
    accepted = sum(value > {0.90: 0.1, 0.95: 0.05, 0.99: 0.01}[level] for value in p)
    assert coverage(p, level) == pytest.approx(accepted / len(p))


@settings(max_examples=50, deadline=None)
@given(p_values)
def test_ks_is_the_largest_gap_of_the_empirical_law(p: list[float]) -> None:
    ordered, n = sorted(p), len(p)
    gaps = [max((i + 1) / n - v, v - i / n) for i, v in enumerate(ordered)]
    assert ks_uniform(p) == pytest.approx(max(gaps))


@settings(max_examples=50, deadline=None)
@given(p_values)
def test_calibration_error_is_the_mean_over_the_grid(p: list[float]) -> None:
    gaps = [abs(coverage(p, level) - level) for level in GRID]
    assert expected_calibration_error(p) == pytest.approx(np.mean(gaps))


def test_uniform_values_are_calibrated_and_others_are_not() -> None:
    p = stream(0, "uniform").random(20_000)
    for level in LEVELS:
        assert coverage(p, level) == pytest.approx(level, abs=0.01)
    assert expected_calibration_error(p) < 0.01
    assert ks_uniform(p) < 0.015
    assert expected_calibration_error(p**3) > 0.1
    assert ks_uniform(p**3) > 0.3


def test_the_grid_is_symmetric_and_all_or_nothing_costs_one_half() -> None:
    assert pytest.approx(0.5) == np.mean(GRID)
    assert expected_calibration_error(np.zeros(4)) == pytest.approx(0.5)
    assert expected_calibration_error(np.ones(4)) == pytest.approx(0.5)


def test_no_p_value_is_not_applicable() -> None:
    assert coverage([], 0.9) is None
    assert ks_uniform([]) is None
    assert expected_calibration_error([]) is None


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_p_values_must_be_probabilities(bad: float) -> None:
    for metric in (ks_uniform, expected_calibration_error):
        with pytest.raises(NumericalError, match="p-values"):
            metric([0.5, bad])
    with pytest.raises(NumericalError, match="p-values"):
        coverage([0.5, bad], 0.9)


def test_bad_levels_and_shapes_are_named() -> None:
    with pytest.raises(DataError, match="level"):
        coverage([0.5], 1.0)
    with pytest.raises(DataError, match="vector"):
        ks_uniform([[0.5]])
