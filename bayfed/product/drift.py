"""Whether recent good parts still look like those that a product was fitted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bayfed.errors import ProductError
from bayfed.metrics import Interval, ks_uniform, share_interval
from bayfed.product.thresholds import next_score, percent
from bayfed.seeds import stream

FEWEST = 5
"""Recent images, below which the test has no power worth a statement."""
MOST = 500
"""Latest images that are tested: with more, what is uncertain is the reference alone."""
LEVEL = 0.01
"""P-value of the test below which recent parts count as others."""
SIMULATIONS = 4000
"""Behind the null law; a p-value of ``LEVEL`` is then known to within 0.002."""


@dataclass(frozen=True)
class Drift:
    """What the p-values of recent good parts say.

    Attributes:
        number: Recent parts.
        distance: Kolmogorov-Smirnov distance of their p-values from uniform.
        p_value: Probability of so large a distance without drift.
        alarms: Share of them above the threshold.
        promised: The share that was promised.
        higher: Whether they look less normal than before, and not more.
    """

    number: int
    distance: float
    p_value: float
    alarms: Interval
    promised: float
    higher: bool

    @property
    def drifted(self) -> bool:
        """Whether recent parts no longer look like the first ones."""
        return self.p_value < LEVEL

    @property
    def broken(self) -> bool:
        """Whether more parts are above the threshold than was promised, beyond chance."""
        return self.alarms.low > self.promised

    @property
    def advice(self) -> str:
        """What to do."""
        if not self.drifted and self.broken:
            return (
                "no drift proven, for few good images were fitted, but more parts are above the "
                "threshold than promised: look at these parts; if they are good, calibrate with "
                "them (bayfed calibrate)"
            )
        if not self.drifted:
            return (
                "no drift found: the scores are no further from uniform than this many good "
                "images leave open"
            )
        if self.higher:
            return (
                "drift: good parts look less normal than those that were fitted; fit anew from "
                "recent good images, or add some (bayfed update), and calibrate"
            )
        return (
            "the recent parts look more normal than promised: the threshold is higher than it need "
            "be; calibrate with them (bayfed calibrate)"
        )


def drift_of(p_values: NDArray[np.float64], alarms: int, promised: float, reference: int) -> Drift:
    """Test p-values of recent good parts against the uniform law.

    P-values that rest on few images are not uniform even without drift: all of them share the
    error of the same reference. The null law of the distance is therefore simulated with a
    reference of as many images, for normal scores and their Student-t predictive, of which the
    mean and the variance do not matter.

    Args:
        p_values: ``(n,)`` of the recent parts.
        alarms: How many of them are above the threshold.
        promised: The share that was promised.
        reference: Images behind the p-values.

    Raises:
        ProductError: too few parts.

    Source: Massey (1951), The Kolmogorov-Smirnov test for goodness of fit, for the distance.

    >>> drift_of(np.full(20, 1e-4), 20, 0.05, 50).drifted
    True
    """
    number = len(p_values)
    if number < FEWEST:
        raise ProductError(f"drift: {number} images where at least {FEWEST} are needed")
    tested = p_values[-MOST:]
    distance = ks_uniform(tested) or 0.0
    return Drift(
        number,
        distance,
        float(np.mean(np.append(null_distances(len(tested), reference) >= distance, True))),
        share_interval(alarms, number),
        promised,
        bool(np.mean(tested) < 0.5),
    )


def null_distances(number: int, reference: int) -> NDArray[np.float64]:
    """Return simulated distances of ``number`` p-values that rest on ``reference`` images.

    >>> bool(np.median(null_distances(50, 5)) > np.median(null_distances(50, 500)))
    True
    """
    random = stream(0, "drift", number, reference)
    known = random.standard_normal((SIMULATIONS, reference))
    new = random.standard_normal((SIMULATIONS, number))
    location, scale = next_score(known)
    t = (new - location[:, None]) / scale[:, None]
    p = np.sort(stats.t.sf(t, reference - 1), axis=1)
    steps = np.arange(number + 1) / number
    above, below = steps[1:] - p, p - steps[:-1]
    distances: NDArray[np.float64] = np.maximum(above, below).max(1)
    return distances


def summary(drift: Drift) -> str:
    """Return the numbers in one line.

    >>> summary(drift_of(np.linspace(0.01, 0.99, 20), 1, 0.05, 50))[:10]
    '20 recent '
    """
    alarms = drift.alarms
    return (
        f"{drift.number} recent parts: {percent(alarms.mean)} above the threshold "
        f"[{percent(alarms.low)}, {percent(alarms.high)}], {percent(drift.promised)} promised; "
        f"Kolmogorov-Smirnov distance {drift.distance:.2f}, p = {drift.p_value:.2g}"
    )
