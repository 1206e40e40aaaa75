"""Image scores on a scale that sites share, from a site's own leave-one-image-out scores."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bayfed.errors import NumericalError

Values = TypeVar("Values", Tensor, NDArray[np.float64])

SPREAD_DOF = 4.0
"""Observations the pooled spread is worth: as much as the k - 1 = 4 of five support images."""
MAD_TO_SIGMA = 1.4826
"""Ratio of a normal law's standard deviation to its median absolute deviation."""


def _median(values: Tensor) -> Tensor:
    return torch.quantile(values, 0.5, dim=-1, keepdim=True)


def support_spread(loo_scores: Tensor) -> Tensor:
    r"""Return the robust spread of a site's support scores.

    .. math:: 1.4826 \cdot \operatorname{median}_i |a_i - \operatorname{median}_j a_j|

    Sites share this number; its root mean square over them is the ``pooled_spread`` of
    :func:`standardise`.

    Args:
        loo_scores: leave-one-image-out scores :math:`a_i`, ``(..., k)``.

    >>> round(support_spread(torch.tensor([1.0, 2.0, 3.0, 4.0, 90.0])).item(), 4)
    1.4826
    """
    deviations = (loo_scores - _median(loo_scores)).abs()
    return MAD_TO_SIGMA * _median(deviations)[..., 0]


def standardise(
    scores: Tensor,
    loo_scores: Tensor,
    pooled_spread: float,
    pooled_dof: float = SPREAD_DOF,
) -> Tensor:
    r"""Centre and scale image scores by the support of their site.

    .. math::
        t = \frac{a - \operatorname{median}_i a_i}{s}, \quad
        s^2 = \frac{\nu_0 s_0^2 + (k - 1) \hat s^2}{\nu_0 + k - 1}

    Five scores tell a spread to within a factor of two, so it is shrunk to that of the other
    sites: :math:`s^2` is the scale of the posterior scaled-inverse-:math:`\chi^2` law, with
    the robust :math:`\hat s` of :func:`support_spread` in place of the standard deviation.
    What bias remains is the same at every site, and in the pooled histogram as well.

    Args:
        scores: :math:`a`, ``(..., m)``.
        loo_scores: :math:`a_i`, ``(..., k)``, leave-one-image-out scores of the support.
        pooled_spread: :math:`s_0 > 0`, in units of the scores.
        pooled_dof: :math:`\nu_0 \ge 0`.

    Returns:
        :math:`t`, ``(..., m)``, without unit.

    Raises:
        NumericalError: the pooled spread is not positive and finite.

    Source: Gelman et al., Bayesian Data Analysis (2013), section 2.6, for the shrinkage.

    >>> loo = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> round(standardise(torch.tensor([6.0]), loo, pooled_spread=1.5).item(), 2)
    2.01
    """
    location, scale = reference(loo_scores, pooled_spread, pooled_dof)
    return (scores - location) / scale


def shrunk(variance: Values, dof: float, pooled: float, pooled_dof: float = SPREAD_DOF) -> Values:
    r"""Return a variance, known with ``dof`` degrees of freedom, shrunk to a pooled one.

    .. math:: s^2 = \frac{\nu_0 s_0^2 + \nu \hat s^2}{\nu_0 + \nu}

    Args:
        variance: :math:`\hat s^2`, of any shape.
        dof: :math:`\nu`.
        pooled: :math:`s_0^2`.
        pooled_dof: :math:`\nu_0`.

    Source: Gelman et al., Bayesian Data Analysis (2013), section 2.6.

    >>> shrunk(torch.tensor(4.0), 4, 2.0).item()
    3.0
    """
    return (pooled_dof * pooled + dof * variance) / (pooled_dof + dof)


def reference(
    loo_scores: Tensor, pooled_spread: float, pooled_dof: float = SPREAD_DOF
) -> tuple[Tensor, Tensor]:
    """Return what :func:`standardise` subtracts and divides by, ``(..., 1)`` each.

    Raises:
        NumericalError: the pooled spread is not positive and finite.

    >>> location, _ = reference(torch.tensor([1.0, 2.0, 3.0]), pooled_spread=1.0)
    >>> location.tolist()
    [2.0]
    """
    if not (math.isfinite(pooled_spread) and pooled_spread > 0):
        raise NumericalError(f"pooled spread of scores is {pooled_spread}, not positive")
    own_dof = loo_scores.shape[-1] - 1
    own = support_spread(loo_scores).square()
    variance = shrunk(own, own_dof, pooled_spread**2, pooled_dof)
    return _median(loo_scores), variance.sqrt()[..., None]
