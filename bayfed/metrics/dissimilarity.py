"""How unlike the factories of a federation are, in their images and in their gradients."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Spread(NamedTuple):
    """How far Gaussians lie apart.

    Attributes:
        distance: mean distance of two of them, in units of the features.
        share: of all variance, what lies between them, in [0, 1); free of any unit.
    """

    distance: float
    share: float


def bures_squared(a: Tensor, b: Tensor) -> Tensor:
    r"""Return the squared Bures distance of covariances.

    .. math:: B^2(A, B) = \operatorname{tr} A + \operatorname{tr} B
        - 2 \operatorname{tr} \bigl(A^{1/2} B A^{1/2}\bigr)^{1/2}

    Args:
        a: A, ``(..., d, d)``, symmetric and positive semi-definite; singular ones too.
        b: B, broadcast against the first.

    Returns:
        ``(...)`` float64, at least 0.

    Source: Bhatia, Jain and Lim, On the Bures-Wasserstein distance between positive definite
    matrices (2019), equation 1.

    >>> bures_squared(torch.eye(2), 9 * torch.eye(2)).item()
    8.0
    """
    a, b = a.double(), b.double()
    root = _root(a)
    cross: Tensor = torch.linalg.eigvalsh(root @ b @ root).clamp(min=0).sqrt().sum(-1)
    return (_trace(a) + _trace(b) - 2 * cross).clamp(min=0)


def wasserstein_distances(means: Tensor, covariances: Tensor) -> Tensor:
    r"""Return the 2-Wasserstein distance of every two of some Gaussians.

    .. math:: W_2^2(i, j) = \lVert m_i - m_j \rVert^2 + B^2(C_i, C_j)

    It is a metric, in units of the features, and finite where a factory has fewer images than
    the features have dimensions; a Kullback-Leibler divergence needs an inverse, and for such
    factories measures the shrinkage that makes one.

    Args:
        means: m, ``(c, d)``.
        covariances: C, ``(c, d, d)``.

    Returns:
        ``(c, c)`` float64, symmetric, 0 on the diagonal; of c (c - 1) / 2 decompositions.

    Source: Givens and Shortt, A class of Wasserstein metrics for probability distributions (1984).

    >>> wasserstein_distances(torch.tensor([[0.0], [3.0]]), torch.tensor([[[1.0]], [[25.0]]]))
    tensor([[0., 5.],
            [5., 0.]], dtype=torch.float64)
    """
    means, covariances = means.double(), covariances.double()
    squared = means.new_zeros(len(means), len(means))
    for i in range(len(means) - 1):  # a row at a time bounds the memory
        offsets = (means[i + 1 :] - means[i]).square().sum(-1)
        squared[i, i + 1 :] = offsets + bures_squared(covariances[i], covariances[i + 1 :])
    return (squared + squared.mT).sqrt()


def gaussian_dissimilarity(
    means: Tensor, covariances: Tensor, weights: Tensor | None = None
) -> Spread:
    r"""Return how far the Gaussians of factories lie apart.

    .. math::
        D &= \frac{\sum_{i<j} w_i w_j\, W_2(i, j)}{\sum_{i<j} w_i w_j}, \quad
        R = \frac{\sum_{i<j} w_i w_j\, W_2^2(i, j)}{\operatorname{tr} C}, \\
        \operatorname{tr} C &= \sum_i w_i \operatorname{tr} C_i
            + \sum_{i<j} w_i w_j \lVert m_i - m_j \rVert^2, \quad \sum_i w_i = 1

    tr C is the variance of the mixture of all. Where all :math:`C_i` are equal, R is the part of
    it that lies between the factories; always :math:`0 \le R < 1`, for
    :math:`B^2 \le \operatorname{tr} C_i + \operatorname{tr} C_j`.

    Args:
        means: m, ``(c, d)`` of the factories' normals in one fixed feature space.
        covariances: C, ``(c, d, d)``.
        weights: w, ``(c,)``, of any positive sum; 1 / c if absent.

    Returns:
        D and R; 0 of a single factory.

    >>> means, same = torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1, 1)
    >>> gaussian_dissimilarity(means, same)
    Spread(distance=2.0, share=0.5)
    """
    distances = wasserstein_distances(means, covariances)
    weights = _weights(weights, distances)
    pairs = torch.triu(weights[:, None] * weights, 1)
    offsets = (means.double()[:, None] - means.double()).square().sum(-1)
    total = (weights * _trace(covariances.double())).sum() + (pairs * offsets).sum()
    if len(means) < 2 or not bool(total > 0):
        return Spread(0.0, 0.0)
    mean = (pairs * distances).sum() / pairs.sum()
    return Spread(float(mean), float((pairs * distances.square()).sum() / total))


def gradient_diversity(gradients: Tensor, weights: Tensor | None = None) -> float:
    r"""Return how far the clients' gradients are from each other, against their mean.

    .. math:: \frac{\sum_c w_c \lVert g_c - g \rVert^2}{\lVert g \rVert^2}
        = \frac{\sum_c w_c \lVert g_c \rVert^2}{\lVert g \rVert^2} - 1,
        \quad g = \sum_c w_c g_c, \quad \sum_c w_c = 1

    0 where all clients agree. For equal weights it is :math:`c\,\Delta - 1` with the gradient
    diversity :math:`\Delta` of Yin et al.; times :math:`\lVert g \rVert^2` it is the mean
    dissimilarity whose bound convergence proofs assume. Near a stationary point g vanishes and the
    gradients of unlike clients do not, so it grows without bound while training goes well.

    Args:
        gradients: g, ``(c, p)``, of all clients at one point.
        weights: w, ``(c,)``, of any positive sum; 1 / c if absent.

    Returns:
        At least 0; infinite where the mean is 0 and the gradients are not.

    Source: Yin et al., Gradient diversity: a key ingredient for scalable distributed learning
    (2018), definition 1; Wang et al., A field guide to federated optimization (2021), section 6,
    where the bound is assumed.

    >>> gradient_diversity(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    1.0
    """
    gradients = gradients.double()
    weights = _weights(weights, gradients)
    mean = weights @ gradients
    apart = float((weights * (gradients - mean).square().sum(-1)).sum())
    size = float(mean.square().sum())
    if not size:
        return float("inf") if apart else 0.0
    return apart / size


def _weights(weights: Tensor | None, rows: Tensor) -> Tensor:
    """Return weights of sum 1, one a row, where the rows are."""
    weights = rows.new_ones(len(rows)) if weights is None else weights.to(rows)
    return weights / weights.sum()


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)


def _root(matrices: Tensor) -> Tensor:
    """Return the symmetric square root; rounding below 0 counts as 0."""
    values, vectors = torch.linalg.eigh(matrices)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()[..., None, :]) @ vectors.mT
    return root
