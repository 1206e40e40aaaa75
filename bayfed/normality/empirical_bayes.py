"""The NIW prior of a new site, from sums over the sites that came before.

Each site contributes one :class:`EvidenceSums`; they are only ever added, so the sum can be made
securely and equals what a central computation would give.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bayfed.errors import ProtocolError
from bayfed.normality.linalg import check_finite
from bayfed.normality.niw import NIW
from bayfed.normality.statistics import SufficientStatistics, outer

NORMALS = 64
"""Normals behind a site's sums, drawn by the seed if it has more."""
KAPPA_RANGE = (1e-3, 1e2)
"""Range of the estimated kappa0: from "sites share no mean" to "sites have one mean"."""
SINGLE_SITE_KAPPA = 0.01
"""kappa0 where one site cannot show how means differ between sites (BayPrAnoMeta's value)."""
SHRINKAGE = 0.01
"""Share of the isotropic part in the pooled covariance, which keeps it definite."""
MOST_SITES, MOST_NORMALS = 1e6, 1e12
"""Of one contribution."""
_SLACK = {torch.float64: 1e-6, torch.float32: 1e-4}
"""Rounding of a scatter, in units of its trace."""


class EvidenceSums(NamedTuple):
    r"""What a site tells of its normal embeddings; a sum over sites has the same form.

    Attributes:
        sites: number of sites :math:`s`, ``()``.
        count: number of embeddings :math:`n = \sum_s n_s`, ``()``.
        within: :math:`\sum_s S_s`, ``(d, d)``.
        mean: :math:`\sum_s \bar z_s`, ``(d,)``.
        mean_outer: :math:`\sum_s \bar z_s \bar z_s^\top`, ``(d, d)``.
    """

    sites: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    within: Tensor
    mean: Tensor
    mean_outer: Tensor

    def add(self, other: EvidenceSums) -> EvidenceSums:
        """Return the sums over the sites of both: plain addition, field by field.

        >>> sums = evidence_sums(SufficientStatistics(torch.ones(()), torch.ones(1), torch.eye(1)))
        >>> sums.add(sums).sites.item()
        2.0
        """
        return EvidenceSums(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def evidence_sums(stats: SufficientStatistics, share: float = 1.0) -> EvidenceSums:
    r"""Return the contribution of one site, or of one share of it.

    The shares :math:`w_j` of a site whose images lie with several clients add up to the site:
    :math:`\sum_j w_j = 1` site with the mean :math:`\sum_j w_j \bar z_j`.

    Args:
        stats: of the site's normal embeddings, without batch shape.
        share: :math:`w_j` in (0, 1], the part of the site's images that ``stats`` is of.

    Returns:
        Sums over this site, in the type of ``stats``; float64 keeps the difference between
        ``mean_outer`` and the outer product of the mean exact enough for means far from zero.

    >>> stats = SufficientStatistics(torch.tensor(3.0), torch.tensor([2.0]), torch.tensor([[8.0]]))
    >>> evidence_sums(stats).mean_outer.item()
    4.0
    """
    return EvidenceSums(
        torch.full_like(stats.count, share),
        stats.count,
        stats.scatter,
        share * stats.mean,
        share * outer(stats.mean),
    )


def implausible(sums: EvidenceSums) -> str | None:
    r"""Return why ``sums`` cannot be those of embeddings, or ``None``.

    .. math:: s > 0, \quad n > 0, \quad \sum_s S_s \succeq 0, \quad
              \sum_s \bar z_s \bar z_s^\top \succeq
              \tfrac1s \sum_s \bar z_s \sum_s \bar z_s^\top

    The last holds because a mean of squares is no less than the square of the mean. All this holds
    for the sum of contributions for which it holds; so one that spoils it is found by itself.

    Args:
        sums: Finite, of any shapes.

    >>> stats = SufficientStatistics(torch.tensor(3.0), torch.tensor([2.0]), torch.tensor([[8.0]]))
    >>> implausible(evidence_sums(stats))
    >>> implausible(evidence_sums(stats)._replace(within=torch.tensor([[-8.0]])))
    'within is no scatter'
    """
    dim = sums.mean.shape[-1:]
    shapes = [tuple(field.shape) for field in sums]
    if sums.mean.ndim != 1 or shapes != [(), (), (*dim, *dim), (*dim,), (*dim, *dim)]:
        return f"tensors of the shapes {shapes} are no sums of embeddings"
    if not (0 < float(sums.sites) <= MOST_SITES and 0 < float(sums.count) <= MOST_NORMALS):
        return f"{float(sums.count):g} embeddings of {float(sums.sites):g} sites"
    if not _is_scatter(sums.within, sums.within.trace()):
        return "within is no scatter"
    between = sums.mean_outer - outer(sums.mean) / sums.sites
    return None if _is_scatter(between, sums.mean_outer.trace()) else "mean_outer is no scatter"


def _is_scatter(matrix: Tensor, scale: Tensor) -> bool:
    """Tell whether a matrix is symmetric and has no negative eigenvalue, but for rounding."""
    slack = _SLACK.get(matrix.dtype, 0.0) * scale.abs() + torch.finfo(matrix.dtype).tiny
    if bool((matrix - matrix.mT).abs().max() > slack):
        return False
    shifted = matrix + slack * torch.eye(len(matrix), dtype=matrix.dtype)
    return not bool(torch.linalg.cholesky_ex(shifted).info)


def _kappa(sums: EvidenceSums, covariance: Tensor) -> Tensor:
    if sums.sites < 1.5:  # shares of one site add up to one within rounding
        return torch.full_like(sums.count, SINGLE_SITE_KAPPA)
    between = (sums.mean_outer - outer(sums.mean) / sums.sites).trace() / (sums.sites - 1)
    spread = between / covariance.trace() - sums.sites / sums.count
    return 1 / spread.clamp(1 / KAPPA_RANGE[1], 1 / KAPPA_RANGE[0])


def _pooled_covariance(sums: EvidenceSums, shrinkage: float) -> Tensor:
    covariance = sums.within / (sums.count - sums.sites)
    dim = covariance.shape[-1]
    identity = torch.eye(dim, dtype=covariance.dtype, device=covariance.device)
    return (1 - shrinkage) * covariance + shrinkage * covariance.trace() / dim * identity


def fit_prior(
    sums: EvidenceSums, extra_dof: float, strength: float, shrinkage: float = SHRINKAGE
) -> NIW:
    r"""Fit the NIW prior to sums over sites by moments.

    .. math::
        C &= \frac{\sum_s S_s}{n - s}, \quad
        C_\lambda = (1 - \lambda) C + \lambda \frac{\operatorname{tr} C}{d} I, \quad
        m_0 = \frac1s \sum_s \bar z_s \
        B &= \frac{1}{s - 1} \Bigl(\sum_s \bar z_s \bar z_s^\top - s\, m_0 m_0^\top\Bigr), \quad
        \frac1{\kappa_0} = \frac{\operatorname{tr} B}{\operatorname{tr} C_\lambda} - \frac sn \
        \nu_0 &= d - 1 + \mathtt{extra\_dof}, \quad \Psi_0 = \mathtt{strength} \cdot C_\lambda

    because :math:`E[B] = C (1/\kappa_0 + \overline{1/n_s})` under the model; the mean of
    :math:`1 / n_s` is taken as :math:`s / n`, exact for sites of equal size. :math:`\kappa_0` is
    clipped to ``KAPPA_RANGE``, and ``SINGLE_SITE_KAPPA`` where there is one site only.

    Args:
        sums: over at least one site.
        extra_dof: degrees of freedom of the prior predictive, positive.
        strength: effective observations: :math:`\Psi_0` weighs in :math:`\Psi_n` as the scatter of
            so many embeddings with the pooled covariance. For a site with that covariance the
            predictive's scale matrix is about
            :math:`C (\mathtt{strength} + n) / (\mathtt{extra\_dof} + n)`, so
            ``strength = extra_dof`` is neither wider nor narrower than the data at any ``n``.
        shrinkage: :math:`\lambda` in [0, 1].

    Returns:
        The prior without batch shape, in the type of ``sums``; computed in float64.

    Raises:
        NumericalError: a sum is not finite.
        ProtocolError: there are not more embeddings than sites.

    Source: method of moments; Gelman et al., Bayesian Data Analysis (2013), chapter 5, for the
    within- and between-group spread.

    >>> stats = SufficientStatistics(torch.tensor(5.0), torch.zeros(1), torch.tensor([[8.0]]))
    >>> prior = fit_prior(evidence_sums(stats), extra_dof=4, strength=4)
    >>> prior.nu.item(), prior.scale.item()
    (4.0, 8.0)
    """
    for field, value in zip(EvidenceSums._fields, sums, strict=True):
        check_finite(value.flatten(), f"empirical Bayes: {field}")
    if not bool(sums.count > sums.sites):
        raise ProtocolError("empirical Bayes: more embeddings than sites are needed")
    exact = EvidenceSums(*(value.double() for value in sums))
    covariance = _pooled_covariance(exact, shrinkage)
    dim = covariance.shape[-1]
    fitted = NIW(
        mean=exact.mean / exact.sites,
        kappa=_kappa(exact, covariance),
        nu=torch.full_like(exact.count, dim - 1 + extra_dof),
        scale=strength * covariance,
    )
    return NIW(*(value.to(sums.within.dtype) for value in fitted))
