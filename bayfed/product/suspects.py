"""Images of a support that do not look like the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bayfed.product.thresholds import next_score

LEVEL = 0.05
"""Chance that one of the images is suspected where all are good."""


def suspicion(own: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Return a p-value for each leave-one-image-out score under the Student-t of the others.

    .. math:: t_i = \frac{a_i - \bar a_{-i}}{s_{-i} \sqrt{1 + 1/(k - 1)}} \sim t_{k - 2}

    Args:
        own: :math:`a_i`, ``(k,)``; of fewer than three nothing can be said, and 1 is returned.

    Source: the externally studentised residual, Cook and Weisberg (1982), Residuals and Influence
    in Regression, section 2.2.1.

    >>> suspicion(np.array([1.0, 1.1, 0.9, 1.0, 9.0])).argmin()
    np.int64(4)
    """
    number = len(own)
    if number < 3:
        return np.ones(number)
    location, scale = next_score(np.stack([np.delete(own, i) for i in range(number)]))
    t = np.divide(own - location, scale, out=np.full(number, -np.inf), where=scale > 0)
    p: NDArray[np.float64] = stats.t.sf(t, number - 2)
    return p


def suspects(own: NDArray[np.float64]) -> list[int]:
    """Return the images whose p-value is below ``LEVEL / k``, the most suspicious first.

    >>> suspects(np.array([1.0, 1.1, 0.9, 1.0, 9.0]))
    [4]
    """
    p = suspicion(own)
    return [int(i) for i in np.argsort(p) if p[i] < LEVEL / max(1, len(own))]
