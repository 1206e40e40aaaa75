"""Intervals over units (products), never over draws of the same unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bayfed.errors import DataError, NumericalError

Draws = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` units and its confidence limits.

    ``mean`` is NaN without a unit; ``low`` and ``high`` are NaN with fewer than two,
    because one unit says nothing of the spread between units.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside; false where there is no interval."""
        return self.low > 0.0 or self.high < 0.0


def _unit_means(draws: Draws) -> dict[str, float]:
    means: dict[str, float] = {}
    for unit, values in draws.items():
        if not len(values):
            raise DataError(f"{unit}: no draw to average")
        means[unit] = float(np.mean(values))
        if not math.isfinite(means[unit]):
            raise NumericalError(f"{unit}: a draw is not finite")
    return means


def _t_interval(values: Sequence[float], level: float) -> Interval:
    n = len(values)
    mean = float(np.mean(values)) if n else math.nan
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    error = float(np.std(values, ddof=1)) / math.sqrt(n)
    half = float(stats.t.ppf(0.5 + level / 2.0, n - 1)) * error
    return Interval(mean, mean - half, mean + half, n)


def mean_interval(draws: Draws, level: float = 0.95) -> Interval:
    """Return the mean over units and its t-interval.

    m +- t_{n-1, (1+level)/2} s / sqrt(n),  m and s over the unit means

    Args:
        draws: unit -> values of its draws, averaged first.
        level: confidence of the interval.

    Raises:
        DataError: a unit has no draw.
        NumericalError: a draw is not finite.

    >>> interval = mean_interval({"nut": [0.7, 0.9], "tile": [0.6], "wood": [0.7]})
    >>> f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    '0.700 [0.452, 0.948]'
    """
    return _t_interval(list(_unit_means(draws).values()), level)


def paired_interval(before: Draws, after: Draws, level: float = 0.95) -> Interval:
    """Return the mean over units of after minus before, and its t-interval.

    D_u = mean(after_u) - mean(before_u);  m +- t_{n-1, (1+level)/2} s / sqrt(n) over D

    Args:
        before: unit -> values of its draws.
        after: unit -> values of its draws, for the same units.
        level: confidence of the interval.

    Raises:
        DataError: a unit has no draw, or is on one side only.
        NumericalError: a draw is not finite.

    >>> paired_interval({"nut": [0.5], "tile": [0.6]}, {"nut": [0.7], "tile": [0.8]}).n
    2
    """
    if before.keys() != after.keys():
        lonely = sorted(before.keys() ^ after.keys())[0]
        raise DataError(f"{lonely}: has a value on one side of the comparison only")
    first, second = _unit_means(before), _unit_means(after)
    return _t_interval([second[unit] - first[unit] for unit in first], level)


def share_interval(hits: int, number: int, level: float = 0.95) -> Interval:
    """Return the share of ``hits`` among ``number`` independent trials, and Wilson's interval.

    Args:
        hits: How many.
        number: Of how many.
        level: confidence of the interval.

    Raises:
        DataError: there is no trial.

    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference.

    >>> interval = share_interval(5, 100)
    >>> f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    '0.050 [0.022, 0.112]'
    """
    if number < 1:
        raise DataError("share: no trial to count")
    found = stats.binomtest(hits, number).proportion_ci(level, method="wilson")
    return Interval(hits / number, float(found.low), float(found.high), number)
