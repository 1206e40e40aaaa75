"""The Normal-Inverse-Wishart model: posterior, predictive, evidence, leave-one-out.

References:
    K. P. Murphy (2007). Conjugate Bayesian analysis of the Gaussian distribution. Section 9,
    the Normal-Inverse-Wishart prior.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bayfed.normality.linalg import check_finite, cholesky_jitter, raise_where, safe_cholesky
from bayfed.normality.special import multivariate_log_gamma_difference
from bayfed.normality.statistics import SufficientStatistics, outer, pool_others
from bayfed.normality.student_t import StudentT


class NIW(NamedTuple):
    r"""A batch of Normal-Inverse-Wishart laws of a mean and a covariance.

    .. math::
        \Sigma \sim \mathrm{IW}_\nu(\Psi), \quad
        \mu \mid \Sigma \sim \mathcal N(m, \Sigma / \kappa)

    Attributes:
        mean: :math:`m`, ``(..., d)``.
        kappa: :math:`\kappa > 0`, observations the mean is worth, ``(...)``.
        nu: :math:`\nu > d - 1`, degrees of freedom, ``(...)``.
        scale: :math:`\Psi`, symmetric positive definite, ``(..., d, d)``;
            :math:`E[\Sigma] = \Psi / (\nu - d - 1)` for :math:`\nu > d + 1`.
    """

    mean: Tensor
    kappa: Tensor
    nu: Tensor
    scale: Tensor


def check_proper(niw: NIW, name: str = "prior") -> None:
    """Raise if the law is improper; to be called outside vmap.

    Raises:
        NumericalError: a parameter is not finite, ``kappa`` or ``nu`` is out of range, or
            ``scale`` is indefinite; the message names the batch index.

    >>> check_proper(NIW(torch.zeros(2), torch.tensor(0.0), torch.tensor(3.0), torch.eye(2)))
    Traceback (most recent call last):
    bayfed.errors.NumericalError: prior: kappa is not positive
    """
    for field, event_dims in (("mean", 1), ("kappa", 0), ("nu", 0), ("scale", 2)):
        check_finite(getattr(niw, field), f"{name}: {field}", event_dims)
    raise_where(niw.kappa <= 0, f"{name}: kappa is not positive")
    raise_where(niw.nu <= niw.mean.shape[-1] - 1, f"{name}: nu is not above d - 1")
    raise_where(cholesky_jitter(niw.scale).isnan(), f"{name}: scale is not positive definite")


def posterior(prior: NIW, stats: SufficientStatistics) -> NIW:
    r"""Return the NIW posterior given the sufficient statistics of a sample.

    .. math::
        \kappa_n &= \kappa_0 + n, \quad \nu_n = \nu_0 + n, \quad
        m_n = (\kappa_0 m_0 + n \bar z) / \kappa_n \\
        \Psi_n &= \Psi_0 + S
        + \frac{\kappa_0 n}{\kappa_n} (\bar z - m_0)(\bar z - m_0)^\top

    Args:
        prior: :math:`(m_0, \kappa_0, \nu_0, \Psi_0)`, batch shape broadcast against ``stats``.
        stats: :math:`(n, \bar z, S)`, batch shape ``(...)``; ``n`` may be fractional or 0.

    Source: Murphy (2007), equations 250 to 254.

    >>> prior = NIW(torch.zeros(1), torch.tensor(1.0), torch.tensor(2.0), torch.eye(1))
    >>> one = SufficientStatistics(torch.tensor(1.0), torch.tensor([2.0]), torch.zeros(1, 1))
    >>> [field.flatten().tolist() for field in posterior(prior, one)]
    [[1.0], [2.0], [3.0], [3.0]]
    """
    kappa = prior.kappa + stats.count
    share = stats.count / kappa
    delta = stats.mean - prior.mean
    between = (prior.kappa * share)[..., None, None] * outer(delta)
    return NIW(
        mean=prior.mean + share[..., None] * delta,
        kappa=kappa,
        nu=prior.nu + stats.count,
        scale=prior.scale + stats.scatter + between,
    )


def predictive_dof_and_factor(kappa: Tensor, nu: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    r"""Return the predictive's degrees of freedom and the factor of its scale matrix.

    .. math:: v = \nu - d + 1, \quad c = \frac{\kappa + 1}{\kappa v}

    >>> dof, factor = predictive_dof_and_factor(torch.tensor(1.0), torch.tensor(5.0), 2)
    >>> dof.item(), factor.item()
    (4.0, 0.5)
    """
    dof = nu - dim + 1
    return dof, (kappa + 1) / (kappa * dof)


def predictive(niw: NIW) -> StudentT:
    r"""Return the law of the next vector, mean and covariance integrated out.

    .. math::
        z \sim t_{v}\left(m, \frac{\kappa + 1}{\kappa v} \Psi\right), \quad v = \nu - d + 1

    Args:
        niw: batch shape ``(...)``.

    Source: Murphy (2007), equation 258.

    >>> t = predictive(NIW(torch.zeros(1), torch.tensor(1.0), torch.tensor(2.0), torch.eye(1)))
    >>> t.dof.item(), t.scale_cholesky.item()
    (2.0, 1.0)
    """
    dof, factor = predictive_dof_and_factor(niw.kappa, niw.nu, niw.mean.shape[-1])
    return StudentT(niw.mean, factor.sqrt()[..., None, None] * safe_cholesky(niw.scale), dof)


def evidence_from_log_determinants(
    kappa: Tensor, nu: Tensor, count: Tensor, log_prior: Tensor, log_posterior: Tensor, dim: int
) -> Tensor:
    r"""Return the log evidence from the log determinants of both scale matrices.

    Args:
        kappa: :math:`\kappa_0`, ``(...)``.
        nu: :math:`\nu_0`, ``(...)``.
        count: :math:`n`, ``(...)``.
        log_prior: :math:`\ln|\Psi_0|`, ``(...)``.
        log_posterior: :math:`\ln|\Psi_n|`, ``(...)``.
        dim: :math:`d`.

    Source: Murphy (2007), equation 266; see :func:`log_evidence`.

    >>> one = torch.ones(())
    >>> evidence_from_log_determinants(one, 3 * one, 0 * one, one, one, 2).item()
    0.0
    """
    gammas = multivariate_log_gamma_difference(0.5 * nu, 0.5 * count, dim)
    determinants = 0.5 * nu * (log_prior - log_posterior) - 0.5 * count * log_posterior
    volume = 0.5 * dim * (count * math.log(math.pi) + torch.log1p(count / kappa))
    return gammas + determinants - volume


def log_evidence(prior: NIW, stats: SufficientStatistics) -> Tensor:
    r"""Return the log marginal likelihood of a sample under the prior.

    .. math::
        \ln p(z_{1:n}) = -\frac{n d}{2} \ln\pi
        + \ln\frac{\Gamma_d(\nu_n / 2)}{\Gamma_d(\nu_0 / 2)}
        + \frac{\nu_0}{2} \ln|\Psi_0| - \frac{\nu_n}{2} \ln|\Psi_n|
        + \frac d2 \ln\frac{\kappa_0}{\kappa_n}

    With tempered statistics it is the integral of the tempered likelihood, without the
    normalisation that would make it a density of the data.

    Args:
        prior: batch shape broadcast against ``stats``.
        stats: batch shape ``(...)``.

    Returns:
        Nats, ``(...)``.

    Source: Murphy (2007), equation 266.

    >>> prior = NIW(torch.zeros(1), torch.tensor(1.0), torch.tensor(1.0), torch.eye(1))
    >>> one = SufficientStatistics(torch.tensor(1.0), torch.zeros(1), torch.zeros(1, 1))
    >>> round(log_evidence(prior, one).exp().item(), 4)  # Cauchy of scale sqrt(2)
    0.2251
    """
    return evidence_from_log_determinants(
        prior.kappa,
        prior.nu,
        stats.count,
        log_determinant(prior.scale),
        log_determinant(posterior(prior, stats).scale),
        prior.mean.shape[-1],
    )


def log_determinant(matrix: Tensor) -> Tensor:
    """Return the log determinant, ``(...)``, of positive definite matrices ``(..., d, d)``.

    >>> round(log_determinant(2 * torch.eye(2)).item(), 4)
    1.3863
    """
    return 2 * safe_cholesky(matrix).diagonal(dim1=-2, dim2=-1).log().sum(-1)


def leave_one_out(prior: NIW, groups: SufficientStatistics) -> NIW:
    r"""Return, for each group, the posterior given all groups but that one.

    .. math:: \mathrm{NIW}_{-g} = \mathrm{posterior}(\mathrm{prior}, \{S_h : h \ne g\})

    With one group an image this is leave-one-image-out, at every grain: the patches of an image
    are never on both sides.

    Args:
        prior: batch shape ``(...)``.
        groups: batch shape ``(..., g)``.

    Returns:
        Posteriors with batch shape ``(..., g)``.

    >>> prior = NIW(torch.zeros(1), torch.tensor(1.0), torch.tensor(2.0), torch.eye(1))
    >>> images = SufficientStatistics(
    ...     torch.ones(3), torch.tensor([[0.0], [2.0], [4.0]]), torch.zeros(3, 1, 1)
    ... )
    >>> leave_one_out(prior, images).mean.flatten().tolist()
    [2.0, 1.3333333730697632, 0.6666666865348816]
    """
    shared = NIW(
        prior.mean[..., None, :],
        prior.kappa[..., None],
        prior.nu[..., None],
        prior.scale[..., None, :, :],
    )
    return posterior(shared, pool_others(groups))
