"""The curves of a study's runs, one a seed, and what is fitted to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

from bayfed.metrics.intervals import Interval, mean_interval
from experiments.study.slopes import slope
from experiments.study.table import Point, by, running_mean

T = TypeVar("T")
Xs = list[float]
Curve = Callable[[Sequence[Point]], tuple[Xs, Xs]]
"""From the rounds of a run to abscissae and ordinates."""
FITTED = 3
"""Points from which on a line is fitted."""


def column(name: str, abscissa: str = "round") -> Curve:
    """Return the curve of a column of the table, where it is known."""

    def of(rounds: Sequence[Point]) -> tuple[Xs, Xs]:
        known = [p for p in rounds if not math.isnan(getattr(p, name))]
        return [float(getattr(p, abscissa)) for p in known], [getattr(p, name) for p in known]

    return of


def least_slope(rounds: Sequence[Point]) -> tuple[Xs, Xs]:
    """Return the rounds that were diagnosed, and the least squared gradient up to each."""
    x, y = column("slope")(rounds)
    return x, list(accumulate(y, min))


def mean_slope(rounds: Sequence[Point]) -> tuple[Xs, Xs]:
    """Return the rounds that were diagnosed, and the mean of the squared gradients up to each."""
    x, y = column("slope")(rounds)
    return x, running_mean(x, y)


def positive(x: Xs, y: Xs) -> list[tuple[float, float]]:
    """Return the points that logarithmic axes can show.

    >>> positive([0, 1], [2.0, 3.0])
    [(1, 3.0)]
    """
    return [(a, b) for a, b in zip(x, y, strict=True) if a > 0 and b > 0]


def rate(rounds: Sequence[Point], curve: Curve) -> Interval | None:
    r"""Return b of :math:`y \propto t^b`, its mean over seeds and the t-interval of that.

    A line is fitted to each seed by itself: the points of one run depend on each other (a running
    mean holds all that came before), so that only runs are replicates; those that went as far as
    the furthest.

    Args:
        rounds: Of the runs of one strategy under one heterogeneity.
        curve: What is fitted, on logarithmic axes.

    Returns:
        None where no run has three points; nan for limits where only one has.
    """
    each = {str(s): positive(*curve(own)) for s, own in by(rounds, "seed").items()}
    whole = furthest(each)
    if not whole or len(next(iter(whole.values()))) < FITTED:
        return None
    fits = {seed: slope(*zip(*points, strict=True)) for seed, points in whole.items()}
    return mean_interval({seed: [fit.value] for seed, fit in fits.items()})


def furthest(each: Mapping[str, Sequence[T]]) -> dict[str, Sequence[T]]:
    """Return the longest sequences that are not empty.

    >>> furthest({"0": [1, 2], "1": [1], "2": [3, 4]})
    {'0': [1, 2], '2': [3, 4]}
    """
    most = max(map(len, each.values()), default=0)
    return {key: values for key, values in each.items() if values and len(values) == most}


def rate_text(found: Interval) -> str:
    """Return a rate in words.

    >>> rate_text(Interval(-0.5, -0.7, -0.3, 3)), rate_text(Interval(-0.5, math.nan, math.nan, 1))
    ('-0.50 [-0.70, -0.30]', '-0.50')
    """
    limits = "" if math.isnan(found.low) else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.mean:.2f}{limits}"
