"""The numbers and the words of a study, each against a computation of its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from experiments.study.curves import least_slope, mean_slope, rate
from experiments.study.differences import against
from experiments.study.findings import findings
from experiments.study.table import Point, Run, Site, running_mean

NAN = math.nan


def point(seed: int, number: int, slope: float, strategy: str = "a") -> Point:
    return Point(strategy, "h", seed, number, NAN, NAN, slope, 2, NAN, NAN, NAN, NAN, NAN, 0, 0)


def power(b: float, seed: int = 0, strategy: str = "a", factor: float = 1.0) -> list[Point]:
    """Return a run whose squared gradient, from round 1 on, is a power of the round."""
    return [point(seed, t, factor * t**b, strategy) for t in (1, 2, 4, 8, 16)]


def ended(strategy: str, seed: int, auroc: float, status: str = "completed") -> Run:
    reason = "" if status == "completed" else "the mean loss is 1e+09"
    known = auroc if status == "completed" else NAN
    rest = (NAN, NAN, NAN, NAN, 2, NAN, NAN, NAN, 1, 1, reason)
    return Run(strategy, "h", seed, status, 9, 0.5, known, *rest)


def sites(strategy: str, gains: list[list[float]]) -> list[Site]:
    """Return sites of a strategy: a row of gains over .6 for each seed."""
    return [
        Site(strategy, "h", seed, f"site{i}", 0.5, 0.6 + gain)
        for seed, row in enumerate(gains)
        for i, gain in enumerate(row)
    ]


def test_a_running_mean_is_that_of_the_area_below() -> None:
    x, y = np.array([0.0, 4, 8, 10]), np.array([9.0, 3, 2, 1])
    expected = [np.trapezoid(y[: k + 1], x[: k + 1]) / x[k] for k in range(1, 4)]
    assert running_mean(x.tolist(), y.tolist()) == pytest.approx([9.0, *expected])


def test_a_gradient_that_vanishes_after_the_start_has_a_mean_of_slope_minus_one() -> None:
    curve = [point(0, t, 1.0 if not t else 0.0) for t in (0, 4, 8, 12, 16)]
    found = rate(curve, mean_slope)
    assert found is not None
    assert found.mean == pytest.approx(-1)


def test_the_interval_of_a_rate_is_over_seeds() -> None:
    exponents = [-0.2, -0.6, -0.7]
    curves = [p for seed, b in enumerate(exponents) for p in power(b, seed)]
    found = rate(curves, least_slope)
    assert found is not None
    low, high = stats.t.interval(0.95, 2, np.mean(exponents), stats.sem(exponents))
    assert (found.mean, found.low, found.high) == pytest.approx((-0.5, low, high))
    # Each line is straight to the last digit: residuals would give no interval at all.
    assert found.high - found.low > 1
    alone = rate(power(-0.3), least_slope)
    assert alone is not None
    assert math.isnan(alone.low)
    assert rate(power(-0.3)[:2], least_slope) is None


def test_a_run_that_was_cut_short_has_no_part_in_a_rate() -> None:
    found = rate([*power(-1, 0), *power(-1, 1), *power(5, 2)[:4]], least_slope)
    assert found is not None
    assert found.mean == pytest.approx(-1)
    assert found.n == 2


def test_differences_are_paired_over_sites_and_over_seeds() -> None:
    gains = [[0.1, 0.3], [0.2, 0.0], [0.3, 0.3]]
    rows = sites("a", [[0, 0]] * 3) + sites("b", gains)
    found = against(rows, "a")["b", "h"]
    for interval, axis in ((found.sites, 0), (found.seeds, 1)):
        means = np.array(gains).mean(axis)
        low, high = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
        assert (interval.low, interval.high, interval.n) == pytest.approx((low, high, len(means)))
    assert found.sites.mean == found.seeds.mean == pytest.approx(0.2)


def test_what_only_one_side_has_finished_is_not_compared() -> None:
    rows = sites("a", [[0, 0, 0], [0, 0, 0]]) + sites("b", [[0.2, 0.1, 0.0]])
    found = against(rows, "a")["b", "h"]
    assert found.sites.mean == pytest.approx(0.1)
    assert (found.sites.n, found.seeds.n) == (3, 1)
    assert not found.is_told


def test_a_training_that_moves_all_sites_together_is_not_told_by_the_sites_alone() -> None:
    rows = sites("a", [[0, 0, 0]] * 3) + sites(
        "b", [[0.30, 0.31, 0.32], [-0.1, -0.1, -0.1], [0] * 3]
    )
    found = against(rows, "a")["b", "h"]
    assert found.sites.excludes_zero
    assert not found.seeds.excludes_zero
    assert not found.is_told


def test_the_words_say_who_is_told_from_the_reference() -> None:
    steady = [[0.10, 0.11, 0.12], [0.11, 0.12, 0.10], [0.12, 0.10, 0.11]]
    rows = sites("a", [[0] * 3] * 3) + sites("b", steady) + sites("c", [[0.3, -0.3, 0.1]] * 3)
    runs = [
        ended(s, seed, x) for seed in range(3) for s, x in (("a", 0.6), ("b", 0.71), ("c", 0.63))
    ]
    said = findings(runs, [], rows)
    assert said[0].startswith(
        "**h**: b has the highest mean AUROC, 0.7100; told from a: b +0.1100 ["
    )
    assert said[0].endswith("; not told from it: c.")
    assert "over sites (n = 3) and over seeds (n = 3)" in said[1]
    assert "Of 2 differences" in said[1]


def test_a_strategy_that_lost_a_seed_is_not_ranked() -> None:
    runs = [
        ended("a", 0, 0.6),
        ended("a", 1, 0.6),
        ended("b", 0, 0.9),
        ended("b", 1, NAN, "diverged"),
    ]
    said = findings(runs, [], [])
    assert "a has the highest mean AUROC, 0.6000" in said[0]
    assert "not ranked, for a seed is missing: b" in said[0]
    assert said[-1] == "**b under h** diverged with 1 of 2 seeds (1): the mean loss is 1e+09."
    lost = [ended("a", 0, NAN, "diverged")]
    assert "no strategy has ended well" in findings(lost, [], [])[0]


def test_a_wide_interval_is_no_rate() -> None:
    curves = [
        *(p for seed in (0, 1, 2) for p in power(-1, seed, "fast", 1 + seed)),
        *(p for seed, b in enumerate((1, -1.5)) for p in power(b, seed, "wild")),
        *(p for seed in (0, 1) for p in power(-0.1, seed, "slow")),
        *power(-3, 0, "once"),
    ]
    text = findings([], curves, [])[0]
    assert "below it 1 of 4; above it (slower) 1 of 4; not told from it 2 of 4." in text
    assert "Below it: fast under h" in text
    named = text.split("Not told from it: ")[1]
    assert all(f"{name} under h" in named for name in ("wild", "once"))
