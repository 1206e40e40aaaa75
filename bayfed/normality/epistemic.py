r"""How uncertain a squared distance is where a posterior is all that is known of the law.

The Mahalanobis distance of :math:`z` under the true law of normal vectors is a random number, for
the posterior leaves that law open.
"""

from __future__ import annotations

import torch  # noqa: F401  # doctest
from torch import Tensor

from bayfed.normality.niw import predictive_dof_and_factor


def distance_moments(
    distance: Tensor, kappa: Tensor, nu: Tensor, dim: int
) -> tuple[Tensor, Tensor]:
    r"""Return mean and variance of the squared distance under the Normal-Inverse-Wishart posterior.

    .. math::
        \Delta^2 = (z - \mu)^\top \Sigma^{-1} (z - \mu), \quad
        q = (z - m)^\top \Psi^{-1} (z - m)

        E[\Delta^2] = \nu q + \frac d\kappa, \quad
        \operatorname{Var}[\Delta^2] = 2 \nu q^2 + \frac{4 \nu q}{\kappa} + \frac{2 d}{\kappa^2}

    For given :math:`\Sigma`, :math:`\kappa \Delta^2` is a noncentral :math:`\chi^2_d` whose
    noncentrality :math:`\kappa w`, :math:`w = (z - m)^\top \Sigma^{-1} (z - m)`, has
    :math:`w / q \sim \chi^2_\nu`; the laws of total mean and variance do the rest. A normal
    vector's own distance has the variance :math:`2 d` even where the law is known.

    Args:
        distance: Squared distance under the **predictive**, ``(...)``, that gives :math:`q`.
        kappa: :math:`\kappa` of the posterior, ``()``.
        nu: :math:`\nu` of the posterior, ``()``.
        dim: :math:`d`.

    Returns:
        Mean and variance, ``(...)`` each.

    Source: Muirhead (1982), Aspects of Multivariate Statistical Theory, theorem 3.2.12, for
    :math:`w / q`.

    >>> one = torch.ones(())
    >>> [value.item() for value in distance_moments(0 * one, 2 * one, 5 * one, 4)]
    [2.0, 2.0]
    """
    _, factor = predictive_dof_and_factor(kappa, nu, dim)
    weighted = nu * factor * distance
    mean = weighted + dim / kappa
    variance = 2 * weighted.square() / nu + 4 * weighted / kappa + 2 * dim / kappa.square()
    return mean, variance
