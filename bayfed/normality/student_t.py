"""The multivariate Student-t distribution by the Cholesky factor of its scale matrix."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bayfed.normality.p_values import f_law_p_value
from bayfed.normality.special import log_gamma_ratio


def log_density(
    squared_distance: Tensor, half_log_determinant: Tensor, dof: Tensor, dim: int
) -> Tensor:
    r"""Return the log density of a multivariate Student-t from its squared distances.

    .. math::
        \ln p = \ln\frac{\Gamma(\frac{v + d}{2})}{\Gamma(\frac v2)} - \frac d2 \ln(v \pi)
        - \frac12 \ln|\Sigma| - \frac{v + d}{2} \ln\left(1 + \frac{\Delta^2}{v}\right)

    written so that the Gaussian limit :math:`v \to \infty` keeps its digits in float32.

    Args:
        squared_distance: :math:`\Delta^2`, ``(..., m)``.
        half_log_determinant: :math:`\frac12 \ln|\Sigma|`, ``(...)``.
        dof: :math:`v > 0`, ``(...)``; any real number.
        dim: :math:`d`.

    Source: Murphy (2007), appendix on the multivariate Student-t.

    >>> zero = torch.zeros(1)
    >>> round(log_density(zero[None], zero, torch.tensor([1e9]), 1).item(), 4)
    -0.9189
    """
    constant = log_gamma_ratio(0.5 * dof, 0.5 * dim) - 0.5 * dim * math.log(2 * math.pi)
    kernel = 0.5 * (dof + dim)[..., None] * torch.log1p(squared_distance / dof[..., None])
    return (constant - half_log_determinant)[..., None] - kernel


class StudentT(NamedTuple):
    r"""A batch of multivariate Student-t distributions.

    Attributes:
        location: :math:`\mu`, ``(..., d)``.
        scale_cholesky: lower :math:`L` with :math:`L L^\top = \Sigma`, the **scale** matrix and not
            the covariance :math:`\Sigma v / (v - 2)`, ``(..., d, d)``.
        dof: :math:`v > 0`, ``(...)``; any real number.
    """

    location: Tensor
    scale_cholesky: Tensor
    dof: Tensor

    def mahalanobis(self, x: Tensor) -> Tensor:
        r"""Return squared Mahalanobis distances to the location.

        .. math:: \Delta^2 = \lVert L^{-1} (x - \mu) \rVert^2

        Args:
            x: points, ``(..., m, d)``.

        Returns:
            :math:`\Delta^2 \ge 0`, ``(..., m)``.

        >>> t = StudentT(torch.zeros(2), 2 * torch.eye(2), torch.tensor(3.0))
        >>> t.mahalanobis(torch.tensor([[2.0, 2.0]])).tolist()
        [2.0]
        """
        centred = x - self.location[..., None, :]
        whitened: Tensor = torch.linalg.solve_triangular(
            self.scale_cholesky, centred.mT, upper=False
        )
        return whitened.square().sum(-2)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density of each point; see :func:`log_density`.

        Args:
            x: points, ``(..., m, d)``.

        Returns:
            Nats, ``(..., m)``.

        >>> t = StudentT(torch.zeros(1), torch.eye(1), torch.tensor(1.0))
        >>> round(t.log_prob(torch.zeros(1, 1)).exp().item(), 4)  # Cauchy: 1 / pi
        0.3183
        """
        half_log_determinant = self.scale_cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        dim = self.location.shape[-1]
        return log_density(self.mahalanobis(x), half_log_determinant, self.dof, dim)

    def p_value(self, x: Tensor) -> Tensor:
        """Return the F-law p-value of each point as a single embedding; not differentiable.

        Args:
            x: points, ``(..., m, d)``.

        Returns:
            ``(..., m)`` in [0, 1]; see :func:`bayfed.normality.f_law_p_value`.

        >>> t = StudentT(torch.zeros(2), torch.eye(2), torch.tensor(5.0))
        >>> t.p_value(torch.zeros(1, 2)).tolist()
        [1.0]
        """
        return f_law_p_value(self.mahalanobis(x), self.dof[..., None], self.location.shape[-1])
