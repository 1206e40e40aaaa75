r"""The NIW model with diagonal matrices, linear in the dimension.

The posterior scale matrix :math:`\Psi_n` of the full model is reduced to its diagonal. The
predictive is then **one** multivariate t with a diagonal scale matrix: its coordinates are
uncorrelated but share their degrees of freedom, :math:`\nu_n - d + 1`. It is not a product of
:math:`d` univariate t. Each coordinate has exactly the marginal law of the full predictive, and
where the off-diagonal of :math:`\Psi_n` is zero the two predictives are equal.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from bayfed.normality.niw import predictive_dof_and_factor
from bayfed.normality.p_values import f_law_p_value
from bayfed.normality.statistics import centred_moments, weigh
from bayfed.normality.student_t import log_density


class DiagonalNIW(NamedTuple):
    r"""A batch of Normal-Inverse-Wishart laws with a diagonal scale matrix.

    Attributes:
        mean: :math:`m`, ``(..., d)``.
        kappa: :math:`\kappa > 0`, ``(...)``.
        nu: :math:`\nu > d - 1`, ``(...)``.
        scale: diagonal of :math:`\Psi`, positive, ``(..., d)``.
    """

    mean: Tensor
    kappa: Tensor
    nu: Tensor
    scale: Tensor


class DiagonalStatistics(NamedTuple):
    r"""Count, mean and the diagonal of the centred scatter.

    Attributes:
        count: :math:`n`, ``(...)``, in observations.
        mean: :math:`\bar z`, ``(..., d)``.
        scatter: :math:`\sum_i w_i (z_i - \bar z)^2`, ``(..., d)``.
    """

    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    mean: Tensor
    scatter: Tensor


class DiagonalT(NamedTuple):
    r"""A batch of multivariate Student-t distributions with a diagonal scale matrix.

    Attributes:
        location: :math:`\mu`, ``(..., d)``.
        scale: diagonal of the scale matrix :math:`\Sigma`, ``(..., d)``.
        dof: :math:`v > 0`, ``(...)``.
    """

    location: Tensor
    scale: Tensor
    dof: Tensor

    def mahalanobis(self, x: Tensor) -> Tensor:
        r"""Return :math:`\Delta^2 = \sum_j (x_j - \mu_j)^2 / \Sigma_{jj}`, ``(..., m)``.

        Args:
            x: points, ``(..., m, d)``.

        >>> import torch

        >>> DiagonalT(torch.zeros(2), torch.tensor([4.0, 1.0]), torch.tensor(3.0)).mahalanobis(
        ...     torch.tensor([[2.0, 1.0]])
        ... ).tolist()
        [2.0]
        """
        centred = x - self.location[..., None, :]
        return (centred.square() / self.scale[..., None, :]).sum(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density, ``(..., m)``, of points ``(..., m, d)``.

        >>> import torch

        >>> t = DiagonalT(torch.zeros(1), torch.ones(1), torch.tensor(1.0))
        >>> round(t.log_prob(torch.zeros(1, 1)).exp().item(), 4)
        0.3183
        """
        half_log_determinant = 0.5 * self.scale.log().sum(-1)
        dim = self.location.shape[-1]
        return log_density(self.mahalanobis(x), half_log_determinant, self.dof, dim)

    def p_value(self, x: Tensor) -> Tensor:
        """Return the F-law p-value, ``(..., m)``, of single embeddings; not differentiable.

        >>> import torch

        >>> t = DiagonalT(torch.zeros(2), torch.ones(2), torch.tensor(5.0))
        >>> t.p_value(torch.zeros(1, 2)).tolist()
        [1.0]
        """
        return f_law_p_value(self.mahalanobis(x), self.dof[..., None], self.location.shape[-1])


def diagonal_statistics(z: Tensor, weights: Tensor | None = None) -> DiagonalStatistics:
    r"""Reduce vectors to their count, mean and squared deviations.

    Args:
        z: ``(..., n, d)``.
        weights: :math:`w_i \ge 0`, ``(..., n)``; 1 if absent.

    >>> import torch

    >>> diagonal_statistics(torch.tensor([[0.0], [2.0], [4.0]])).scatter.tolist()
    [8.0]
    """
    count, mean, centred = centred_moments(z, weights)
    return DiagonalStatistics(count, mean, weigh(centred.square(), weights).sum(-2))


def diagonal_posterior(prior: DiagonalNIW, stats: DiagonalStatistics) -> DiagonalNIW:
    r"""Return the diagonal of the NIW posterior.

    .. math::
        \operatorname{diag} \Psi_n = \operatorname{diag} \Psi_0 + \operatorname{diag} S
        + \frac{\kappa_0 n}{\kappa_n} (\bar z - m_0)^2

    and the other parameters as in :func:`bayfed.normality.posterior`.

    Args:
        prior: batch shape broadcast against ``stats``.
        stats: batch shape ``(...)``.

    Source: Murphy (2007), equations 251 to 254, of which only the diagonal is kept.

    >>> import torch

    >>> prior = DiagonalNIW(torch.zeros(1), torch.tensor(1.0), torch.tensor(2.0), torch.ones(1))
    >>> diagonal_posterior(prior, diagonal_statistics(torch.tensor([[2.0]]))).scale.tolist()
    [3.0]
    """
    kappa = prior.kappa + stats.count
    share = stats.count / kappa
    delta = stats.mean - prior.mean
    between = (prior.kappa * share)[..., None] * delta.square()
    return DiagonalNIW(
        mean=prior.mean + share[..., None] * delta,
        kappa=kappa,
        nu=prior.nu + stats.count,
        scale=prior.scale + stats.scatter + between,
    )


def diagonal_predictive(niw: DiagonalNIW) -> DiagonalT:
    r"""Return the multivariate t with the diagonal of the full predictive's scale matrix.

    .. math::
        t_v\left(m, \frac{\kappa + 1}{\kappa v} \operatorname{diag} \Psi\right), \quad
        v = \nu - d + 1

    Source: Murphy (2007), equation 258, of which only the diagonal is kept.

    >>> import torch

    >>> one = torch.ones(1)
    >>> t = diagonal_predictive(DiagonalNIW(0 * one, torch.tensor(1.0), torch.tensor(2.0), one))
    >>> t.dof.item(), t.scale.item()
    (2.0, 1.0)
    """
    dof, factor = predictive_dof_and_factor(niw.kappa, niw.nu, niw.mean.shape[-1])
    return DiagonalT(niw.mean, factor[..., None] * niw.scale, dof)
