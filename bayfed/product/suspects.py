"""Images of a support that do not look like the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bayfed.normality.calibration import SPREAD_DOF, shrunk
from bayfed.product.thresholds import next_score

LEVEL = 0.05
"""Chance that one of the images is suspected where all are good."""


def suspicion(own: NDArray[np.float64], spread: float | None = None) -> NDArray[np.float64]:
    r"""Return a p-value for each leave-one-image-out score under the Student-t of the others.

    .. math::
        t_i = \frac{a_i - \bar a_{-i}}{s \sqrt{1 + 1/(k - 1)}} \sim t_\nu, \qquad
        s^2 = \frac{\nu_0 s_0^2 + (k - 2) s_{-i}^2}{\nu_0 + k - 2}, \qquad \nu = \nu_0 + k - 2

    where :math:`s_0` is the spread at other products, known as :math:`\nu_0` scores tell it; with
    none, :math:`\nu_0 = 0`. From five scores, one of them a defect's, a spread is hardly known.

    Args:
        own: :math:`a_i`, ``(k,)``; of fewer than three nothing can be said, and 1 is returned.
        spread: :math:`s_0`; None = of no other product.

    Source: the externally studentised residual, Cook and Weisberg (1982), Residuals and Influence
    in Regression, section 2.2.1; the pooled variance is that of the p-values,
    :func:`bayfed.normality.reference`.

    >>> suspicion(np.array([1.0, 1.1, 0.9, 1.0, 9.0])).argmin()
    np.int64(4)
    """
    number = len(own)
    if number < 3:
        return np.ones(number)
    others = np.stack([np.delete(own, i) for i in range(number)])
    location, scale = next_score(others)
    dof = float(number - 2)
    if spread is not None:
        known = spread**2 * (1 + 1 / (number - 1))
        scale = np.sqrt(shrunk(scale**2, dof, known))
        dof += SPREAD_DOF
    t = np.divide(own - location, scale, out=np.full(number, -np.inf), where=scale > 0)
    p: NDArray[np.float64] = stats.t.sf(t, dof)
    return p


def suspects(own: NDArray[np.float64], spread: float | None = None) -> list[int]:
    """Return the images whose p-value is below ``LEVEL / k``, the most suspicious first.

    >>> suspects(np.array([1.0, 1.1, 0.9, 1.0, 9.0]))
    [4]
    """
    p = suspicion(own, spread)
    return [int(i) for i in np.argsort(p) if p[i] < LEVEL / max(1, len(own))]
