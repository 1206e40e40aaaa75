"""Sufficient statistics of Gaussian samples, which add up exactly over images and factories."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SufficientStatistics(NamedTuple):
    r"""Count, mean and centred scatter of a (weighted) sample.

    Attributes:
        count: :math:`n = \sum_i w_i`, ``(...)``, in observations; need not be a whole number.
        mean: :math:`\bar z = \sum_i w_i z_i / n`, ``(..., d)``; zero where ``count`` is.
        scatter: :math:`S = \sum_i w_i (z_i - \bar z)(z_i - \bar z)^\top`, ``(..., d, d)``.
    """

    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody calls
    mean: Tensor
    scatter: Tensor


def outer(vector: Tensor) -> Tensor:
    r"""Return :math:`v v^\top`, ``(..., d, d)``, of each vector ``(..., d)``.

    >>> outer(torch.tensor([1.0, 2.0])).tolist()
    [[1.0, 2.0], [2.0, 4.0]]
    """
    return vector[..., :, None] * vector[..., None, :]


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return the quotient, and 0 (with zero gradient) where the denominator is 0.

    >>> ratio(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 0.0])).tolist()
    [0.5, 0.0]
    """
    empty = denominator == 0
    quotient = numerator / torch.where(empty, torch.ones_like(denominator), denominator)
    return torch.where(empty, torch.zeros_like(quotient), quotient)


def weigh(vectors: Tensor, weights: Tensor | None) -> Tensor:
    """Multiply vectors ``(..., n, d)`` by weights ``(..., n)``; absent weights cost nothing.

    >>> weigh(torch.ones(2, 1), torch.tensor([3.0, 1.0])).tolist()
    [[3.0], [1.0]]
    """
    return vectors if weights is None else weights[..., None] * vectors


def centred_moments(z: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the count, the mean and the centred vectors of a (weighted) sample.

    Args:
        z: ``(..., n, d)``.
        weights: ``(..., n)``; 1 if absent.

    Returns:
        Shapes ``(...)``, ``(..., d)`` and ``(..., n, d)``.

    >>> centred_moments(torch.tensor([[0.0], [4.0]]), torch.tensor([3.0, 1.0]))[1].tolist()
    [1.0]
    """
    if weights is None:
        count = z.new_full(z.shape[:-2], z.shape[-2])
        mean = z.sum(-2) / max(z.shape[-2], 1)
    else:
        count = weights.to(z).sum(-1)
        mean = ratio(weigh(z, weights).sum(-2), count[..., None])
    return count, mean, z - mean[..., None, :]


def sufficient_statistics(z: Tensor, weights: Tensor | None = None) -> SufficientStatistics:
    r"""Reduce vectors to their count, mean and scatter, centred before they are squared.

    .. math::
        n = \sum_i w_i, \quad \bar z = \frac1n \sum_i w_i z_i, \quad
        S = \sum_i w_i (z_i - \bar z)(z_i - \bar z)^\top

    Args:
        z: vectors :math:`z_i`, ``(..., n, d)``; ``n`` may be 0.
        weights: :math:`w_i \ge 0`, ``(..., n)``; 1 if absent.

    >>> stats = sufficient_statistics(torch.tensor([[0.0], [2.0], [4.0]]))
    >>> stats.count.item(), stats.mean.item(), stats.scatter.item()
    (3.0, 2.0, 8.0)
    """
    count, mean, centred = centred_moments(z, weights)
    return SufficientStatistics(count, mean, weigh(centred, weights).mT @ centred)


def merge(a: SufficientStatistics, b: SufficientStatistics) -> SufficientStatistics:
    r"""Return the statistics of two disjoint samples taken together.

    .. math::
        n = n_a + n_b, \quad \bar z = \bar z_a + \tfrac{n_b}{n} \delta, \quad
        S = S_a + S_b + \tfrac{n_a n_b}{n} \delta \delta^\top, \quad
        \delta = \bar z_b - \bar z_a

    Args:
        a: statistics of the first sample, batch shape ``(...)``.
        b: statistics of the second, broadcast against the first.

    Source: Chan, Golub and LeVeque (1983), the pairwise update.

    >>> z = torch.tensor([[0.0], [2.0], [4.0]])
    >>> merge(sufficient_statistics(z[:1]), sufficient_statistics(z[1:])).scatter.item()
    8.0
    """
    count = a.count + b.count
    share = ratio(b.count, count)
    delta = b.mean - a.mean
    between = (a.count * share)[..., None, None] * outer(delta)
    return SufficientStatistics(
        count, a.mean + share[..., None] * delta, a.scatter + b.scatter + between
    )


def project(stats: SufficientStatistics, head: Tensor) -> SufficientStatistics:
    r"""Return the statistics of linearly mapped vectors from those of the vectors.

    .. math:: z_i \mapsto W^\top z_i: \quad
        (n, \bar z, S) \mapsto (n, W^\top \bar z, W^\top S W)

    An inner loop over :math:`W` so reads the observations once, whatever their number.

    Args:
        stats: of vectors of dimension ``d``, batch shape ``(...)``.
        head: :math:`W`, ``(..., d, p)``.

    Returns:
        Statistics of vectors of dimension ``p``.

    >>> stats = sufficient_statistics(torch.tensor([[0.0], [2.0], [4.0]]))
    >>> project(stats, torch.tensor([[3.0]])).scatter.item()
    72.0
    """
    mean = (stats.mean[..., None, :] @ head)[..., 0, :]
    return SufficientStatistics(stats.count, mean, head.mT @ stats.scatter @ head)


def _pool(groups: SufficientStatistics, members: Tensor) -> SufficientStatistics:
    """Pool the groups under each row of ``members`` ``(r, g)``, giving batch shape ``(..., r)``."""
    shares = members * groups.count[..., None, :]
    count = shares.sum(-1)
    mean = ratio(shares @ groups.mean, count[..., None])
    offsets = groups.mean[..., None, :, :] - mean[..., :, None, :]
    between = (shares[..., None] * offsets).mT @ offsets
    within = torch.einsum("rg,...gij->...rij", members, groups.scatter)
    return SufficientStatistics(count, mean, within + between)


def pool(groups: SufficientStatistics) -> SufficientStatistics:
    r"""Return the statistics of all groups taken together.

    .. math::
        n = \sum_g n_g, \quad \bar z = \tfrac1n \sum_g n_g \bar z_g, \quad
        S = \sum_g S_g + \sum_g n_g (\bar z_g - \bar z)(\bar z_g - \bar z)^\top

    Args:
        groups: statistics with batch shape ``(..., g)``, as :func:`sufficient_statistics` gives
            for vectors ``(..., g, n, d)``.

    Returns:
        Statistics with batch shape ``(...)``.

    >>> z = torch.arange(6.0).reshape(2, 3, 1)
    >>> pool(sufficient_statistics(z)).scatter.item()
    17.5
    """
    size = groups.mean.shape[-2]
    everyone = torch.ones(1, size, dtype=groups.mean.dtype, device=groups.mean.device)
    pooled = _pool(groups, everyone)
    return SufficientStatistics(
        pooled.count[..., 0], pooled.mean[..., 0, :], pooled.scatter[..., 0, :, :]
    )


def pool_others(groups: SufficientStatistics) -> SufficientStatistics:
    r"""Return, for each group, the statistics of all the others.

    The others are added, never subtracted from the whole, so that nothing cancels and every
    scatter stays positive semi-definite.

    .. math:: (n_{-g}, \bar z_{-g}, S_{-g}) = \mathrm{pool}\{h : h \ne g\}

    Args:
        groups: statistics with batch shape ``(..., g)``; a group is an image where
            leave-one-out means leave-one-image-out.

    Returns:
        Statistics with batch shape ``(..., g)``.

    >>> z = torch.tensor([[[0.0]], [[2.0]], [[4.0]]])
    >>> pool_others(sufficient_statistics(z)).mean.flatten().tolist()
    [3.0, 2.0, 1.0]
    """
    size = groups.mean.shape[-2]
    others = 1 - torch.eye(size, dtype=groups.mean.dtype, device=groups.mean.device)
    return _pool(groups, others)


def temper(stats: SufficientStatistics, effective: Tensor) -> SufficientStatistics:
    r"""Scale the statistics of dependent observations to the number they are worth.

    .. math:: (n, \bar z, S) \mapsto (m, \bar z, \tfrac mn S)

    which is the likelihood raised to the power :math:`m / n`. An empty sample stays empty.

    Args:
        stats: batch shape ``(...)``.
        effective: :math:`m \ge 0`, effective observations, a tensor that expands to ``(...)``.

    >>> stats = temper(sufficient_statistics(torch.tensor([[0.0], [4.0]])), torch.tensor(1.0))
    >>> stats.count.item(), stats.scatter.item()
    (1.0, 4.0)
    """
    power = ratio(effective.expand_as(stats.count), stats.count)
    return SufficientStatistics(
        power * stats.count, stats.mean, power[..., None, None] * stats.scatter
    )
