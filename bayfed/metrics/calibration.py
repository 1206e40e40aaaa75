"""Whether p-values of held-out normal images are uniform, as they claim to be."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bayfed.errors import DataError, NumericalError

LEVELS = (0.90, 0.95, 0.99)
"""Nominal coverages that the results table has columns for."""

GRID = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Nominal coverages 0.05, 0.10, ..., 0.95 over which the calibration error is averaged."""


def _checked(p: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1:
        raise DataError(f"p-values: a vector is expected, not {values.ndim} dimensions")
    if not ((values >= 0.0) & (values <= 1.0)).all():
        raise NumericalError("p-values: not all are in [0, 1]")
    return values


def coverage(p: ArrayLike, level: float) -> float | None:
    """Return the fraction of held-out normals inside the region of nominal coverage.

    (1 / n) |{i: p_i > 1 - level}|

    Args:
        p: (n,) p-values of held-out normals.
        level: nominal coverage, in (0, 1).

    Returns:
        The coverage; None (not applicable) if there is no p-value.

    Raises:
        DataError: the level is not in (0, 1).
        NumericalError: a p-value is not in [0, 1].

    >>> coverage([0.02, 0.3, 0.6, 0.9], 0.95)
    0.75
    """
    if not 0.0 < level < 1.0:
        raise DataError(f"level {level}: the nominal coverage must be in (0, 1)")
    values = _checked(p)
    # round: 1 - 0.9 is a little above 0.1, and p = 0.1 must not depend on that
    return float(np.mean(values > round(1.0 - level, 12))) if values.size else None


def ks_uniform(p: ArrayLike) -> float | None:
    """Return the Kolmogorov-Smirnov distance of p-values from the uniform law.

    sup_u |F_n(u) - u|,  F_n the empirical distribution of p

    Args:
        p: (n,) p-values of held-out normals.

    Returns:
        The distance, in [0, 1]; None (not applicable) if there is no p-value.

    Raises:
        NumericalError: a p-value is not in [0, 1].

    >>> ks_uniform([0.25, 0.75])
    0.25
    """
    values = _checked(p)
    if not values.size:
        return None
    return float(stats.ks_1samp(values, stats.uniform.cdf, method="asymp").statistic)


def expected_calibration_error(p: ArrayLike) -> float | None:
    """Return the mean distance between empirical and nominal coverage.

    (1 / |G|) sum_{a in G} |coverage(p, a) - a|,  G = {0.05, 0.10, ..., 0.95}

    It is 0.5 if all p-values are 0, or all are 1; for n uniform ones it is not 0 but of order
    0.3 / sqrt(n).

    Args:
        p: (n,) p-values of held-out normals.

    Returns:
        The error; None (not applicable) if there is no p-value.

    Raises:
        NumericalError: a p-value is not in [0, 1].

    >>> expected_calibration_error([0.0, 0.0, 0.0])
    0.5
    """
    values = _checked(p)
    if not values.size:
        return None
    grid = np.asarray(GRID)
    covered = (values[:, None] > np.round(1.0 - grid, 12)).mean(axis=0)
    return float(np.mean(np.abs(covered - grid)))
