r"""The NIW model with a diagonal prior scale matrix and fewer vectors than dimensions.

With :math:`\Psi_0 = \operatorname{diag}(g)` the posterior scale matrix is exactly

.. math::
    \Psi_n = \operatorname{diag}(g) + U U^\top, \quad
    U = \left[\sqrt{w_i} (z_i - \bar z) \ldots, \;
        \sqrt{\tfrac{\kappa_0 n}{\kappa_n}} (\bar z - m_0)\right]

so that nothing :math:`d \times d` is ever formed: :math:`O(d n^2)` to fit, :math:`O(d n)` a
query. Nothing is approximated; results equal those of the full form.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bayfed.normality.diagonal import DiagonalNIW
from bayfed.normality.linalg import safe_cholesky
from bayfed.normality.niw import evidence_from_log_determinants, predictive_dof_and_factor
from bayfed.normality.p_values import f_law_p_value
from bayfed.normality.statistics import centred_moments, weigh
from bayfed.normality.student_t import log_density


class LowRankNIW(NamedTuple):
    r"""A batch of NIW laws with a diagonal plus low-rank scale matrix.

    Attributes:
        mean: :math:`m`, ``(..., d)``.
        kappa: :math:`\kappa > 0`, ``(...)``.
        nu: :math:`\nu > d - 1`, ``(...)``.
        diagonal: :math:`g > 0`, ``(..., d)``.
        factor: :math:`U` with :math:`\Psi = \operatorname{diag}(g) + U U^\top`, ``(..., d, r)``.
    """

    mean: Tensor
    kappa: Tensor
    nu: Tensor
    diagonal: Tensor
    factor: Tensor


class LowRankT(NamedTuple):
    r"""A batch of multivariate t with :math:`\Sigma = \operatorname{diag}(g) + U U^\top`.

    Attributes:
        location: :math:`\mu`, ``(..., d)``.
        diagonal: :math:`g > 0`, ``(..., d)``.
        factor: :math:`U`, ``(..., d, r)``.
        capacitance_cholesky: lower :math:`L` with
            :math:`L L^\top = M = I + U^\top \operatorname{diag}(1/g) U`, ``(..., r, r)``.
        dof: :math:`v > 0`, ``(...)``.
    """

    location: Tensor
    diagonal: Tensor
    factor: Tensor
    capacitance_cholesky: Tensor
    dof: Tensor

    def mahalanobis(self, x: Tensor) -> Tensor:
        r"""Return squared Mahalanobis distances by Woodbury's identity.

        .. math::
            \Delta^2 = \sum_j \frac{y_j^2}{g_j} - \lVert L^{-1} U^\top (y / g) \rVert^2, \quad
            y = x - \mu

        Args:
            x: points, ``(..., m, d)``.

        Returns:
            ``(..., m)``; a difference, whose rounding error is relative to its first term.

        >>> one = torch.ones(1, 1)
        >>> t = LowRankT(torch.zeros(1), torch.ones(1), one, 2**0.5 * one, torch.tensor(3.0))
        >>> round(t.mahalanobis(2 * one).item(), 4)  # 4 / (1 + 1)
        2.0
        """
        centred = x - self.location[..., None, :]
        scaled = centred / self.diagonal[..., None, :]
        projected = (scaled @ self.factor).mT
        explained: Tensor = torch.linalg.solve_triangular(
            self.capacitance_cholesky, projected, upper=False
        )
        return ((centred * scaled).sum(-1) - explained.square().sum(-2)).clamp_min(0)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density, ``(..., m)``, of points ``(..., m, d)``.

        >>> one = torch.ones(1, 1)
        >>> t = LowRankT(torch.zeros(1), torch.ones(1), 0 * one, one, torch.tensor(1.0))
        >>> round(t.log_prob(0 * one).exp().item(), 4)
        0.3183
        """
        half_log_determinant = 0.5 * low_rank_log_determinant(
            self.diagonal, self.capacitance_cholesky
        )
        dim = self.location.shape[-1]
        return log_density(self.mahalanobis(x), half_log_determinant, self.dof, dim)

    def p_value(self, x: Tensor) -> Tensor:
        """Return the F-law p-value, ``(..., m)``, of single embeddings; not differentiable.

        >>> one = torch.ones(1, 1)
        >>> t = LowRankT(torch.zeros(1), torch.ones(1), 0 * one, one, torch.tensor(1.0))
        >>> t.p_value(one).item()
        0.5
        """
        return f_law_p_value(self.mahalanobis(x), self.dof[..., None], self.location.shape[-1])


def capacitance_cholesky(diagonal: Tensor, factor: Tensor) -> Tensor:
    r"""Return the Cholesky factor of :math:`M = I + U^\top \operatorname{diag}(1/g) U`.

    Args:
        diagonal: :math:`g > 0`, ``(..., d)``.
        factor: :math:`U`, ``(..., d, r)``.

    Returns:
        ``(..., r, r)``.

    >>> capacitance_cholesky(torch.ones(3), torch.ones(3, 1)).tolist()
    [[2.0]]
    """
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    return safe_cholesky(identity + factor.mT @ (factor / diagonal[..., None]))


def low_rank_log_determinant(diagonal: Tensor, capacitance: Tensor) -> Tensor:
    r"""Return :math:`\ln|\operatorname{diag}(g) + U U^\top| = \sum_j \ln g_j + \ln|M|`.

    Args:
        diagonal: :math:`g > 0`, ``(..., d)``.
        capacitance: Cholesky factor of :math:`M`, ``(..., r, r)``.

    >>> low_rank_log_determinant(torch.ones(2), torch.eye(1)).item()
    0.0
    """
    halves: Tensor = capacitance.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return diagonal.log().sum(-1) + 2 * halves


def low_rank_posterior(prior: DiagonalNIW, z: Tensor, weights: Tensor | None = None) -> LowRankNIW:
    r"""Return the exact posterior of a diagonal prior in low-rank form.

    Args:
        prior: :math:`(m_0, \kappa_0, \nu_0, \operatorname{diag}(g))`, batch shape ``(...)``.
        z: :math:`z_i`, ``(..., n, d)``.
        weights: :math:`w_i > 0`, ``(..., n)``; 1 if absent. :math:`m / n` each tempers the
            likelihood to :math:`m` effective observations.

    Source: Murphy (2007), equations 251 to 254.

    >>> prior = DiagonalNIW(torch.zeros(1), torch.tensor(1.0), torch.tensor(2.0), torch.ones(1))
    >>> niw = low_rank_posterior(prior, torch.tensor([[2.0]]))
    >>> (niw.factor @ niw.factor.mT + niw.diagonal).item()
    3.0
    """
    count, mean, centred = centred_moments(z, weights)
    kappa = prior.kappa + count
    share = count / kappa
    delta = mean - prior.mean
    columns = weigh(centred, None if weights is None else weights.sqrt())
    shift = (prior.kappa * share).sqrt()[..., None] * delta
    return LowRankNIW(
        mean=prior.mean + share[..., None] * delta,
        kappa=kappa,
        nu=prior.nu + count,
        diagonal=prior.scale.expand_as(shift),
        factor=torch.cat([columns, shift[..., None, :]], dim=-2).mT,
    )


def low_rank_predictive(niw: LowRankNIW) -> LowRankT:
    """Return the predictive in low-rank form; see :func:`bayfed.normality.predictive`.

    Source: Murphy (2007), equation 258.

    >>> one = torch.ones(1)
    >>> niw = LowRankNIW(0 * one, torch.tensor(1.0), torch.tensor(2.0), one, one[None])
    >>> t = low_rank_predictive(niw)
    >>> t.dof.item(), (t.factor**2 + t.diagonal).item()
    (2.0, 2.0)
    """
    dof, factor = predictive_dof_and_factor(niw.kappa, niw.nu, niw.mean.shape[-1])
    return LowRankT(
        location=niw.mean,
        diagonal=factor[..., None] * niw.diagonal,
        factor=factor.sqrt()[..., None, None] * niw.factor,
        capacitance_cholesky=capacitance_cholesky(niw.diagonal, niw.factor),
        dof=dof,
    )


def low_rank_log_evidence(prior: DiagonalNIW, z: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the log evidence, ``(...)`` nats, of vectors under a diagonal prior.

    Args:
        prior: batch shape ``(...)``.
        z: ``(..., n, d)``.
        weights: positive, ``(..., n)``; 1 if absent.

    Source: Murphy (2007), equation 266; see :func:`bayfed.normality.log_evidence`.

    >>> prior = DiagonalNIW(torch.zeros(1), torch.tensor(1.0), torch.tensor(1.0), torch.ones(1))
    >>> round(low_rank_log_evidence(prior, torch.zeros(1, 1)).exp().item(), 4)
    0.2251
    """
    niw = low_rank_posterior(prior, z, weights)
    capacitance = capacitance_cholesky(niw.diagonal, niw.factor)
    return evidence_from_log_determinants(
        prior.kappa,
        prior.nu,
        niw.nu - prior.nu,
        prior.scale.log().sum(-1),
        low_rank_log_determinant(niw.diagonal, capacitance),
        prior.mean.shape[-1],
    )
