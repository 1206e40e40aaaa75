"""Straight lines through points on logarithmic axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import linregress, t


@dataclass(frozen=True)
class Slope:
    r"""The least-squares line :math:`\log y = b \log x + a`.

    Attributes:
        value: b.
        low: Lower end of its 95 % interval by Student's t.
        high: Upper end.
        factor: :math:`e^a`.
    """

    value: float
    low: float
    high: float
    factor: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def slope(x: Sequence[float], y: Sequence[float]) -> Slope:
    """Return the slope through positive points, at least three.

    >>> str(slope([1, 10, 100], [5, 0.5, 0.05]))
    '-1.00 [-1.00, -1.00]'
    """
    found = linregress(np.log(x), np.log(y))
    half = float(t.ppf(0.975, len(x) - 2)) * float(found.stderr)
    value = float(found.slope)
    return Slope(value, value - half, value + half, float(np.exp(found.intercept)))
