"""P-value of one embedding under the Student-t predictive."""

from __future__ import annotations

import torch
from scipy import special
from torch import Tensor


def f_law_p_value(squared_distance: Tensor, dof: Tensor, dim: int) -> Tensor:
    r"""Return the probability of a larger Mahalanobis distance under the Student-t itself.

    .. math:: p = 1 - F_{d, v}\!\left(\frac{\Delta^2}{d}\right), \quad
        \Delta^2 = (x - \mu)^\top \Sigma^{-1} (x - \mu)

    The law holds for **one** embedding: an image's at the image grain, or a single patch's. A
    mean over the highest of many dependent patches has another null law; see
    :class:`bayfed.normality.ScoreHistogram`. Computed by SciPy in float64: not differentiable,
    and not for use under vmap.

    Args:
        squared_distance: :math:`\Delta^2`, ``(...)``.
        dof: :math:`v > 0`, broadcast against it.
        dim: :math:`d`.

    Returns:
        :math:`p` in [0, 1], ``(...)``, in the type and on the device of ``squared_distance``.

    Source: Kotz and Nadarajah (2004), chapter 1: :math:`\Delta^2 / d \sim F(d, v)` for a
    :math:`d`-variate t with scale matrix :math:`\Sigma`.

    >>> round(float(f_law_p_value(torch.tensor(2.0), torch.tensor(2.0), 2)), 4)
    0.5
    """
    squared = squared_distance.detach().cpu().double()
    below = special.fdtrc(float(dim), dof.detach().cpu().double().numpy(), squared.numpy() / dim)
    return torch.as_tensor(below).to(squared_distance)
