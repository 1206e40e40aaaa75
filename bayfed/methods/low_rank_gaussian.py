"""A Gaussian whose covariance is of low rank but for a multiple of the identity."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class LowRankGaussian(NamedTuple):
    r"""Gaussians of batch shape ``(...)`` with :math:`\Sigma = A^\top A + \varepsilon I`.

    Attributes:
        mean: ``(..., c)``.
        factor: :math:`W = L^{-1} A`, ``(..., k, c)``, where
            :math:`L L^\top = \varepsilon I + A A^\top`.
        ridge: :math:`\varepsilon > 0`, ``()``.
    """

    mean: Tensor
    factor: Tensor
    ridge: Tensor

    def distance(self, vectors: Tensor) -> Tensor:
        r"""Return the Mahalanobis distances ``(..., q)`` of ``(..., q, c)`` vectors.

        .. math:: (x - \mu)^\top \Sigma^{-1} (x - \mu)
            = \tfrac1\varepsilon \left(\|x - \mu\|^2 - \|W (x - \mu)\|^2\right)

        Source: Woodbury 1950, the inverse of a matrix modified by one of low rank.
        """
        centred = vectors - self.mean[..., None, :]
        inside = centred @ self.factor.mT
        squared = centred.square().sum(-1) - inside.square().sum(-1)
        return (squared.clamp(min=0) / self.ridge).sqrt()


def low_rank_gaussian(mean: Tensor, root: Tensor, ridge: Tensor) -> LowRankGaussian:
    r"""Return the Gaussian with covariance :math:`A^\top A + \varepsilon I`, in float32.

    Args:
        mean: ``(..., c)``.
        root: :math:`A`, ``(..., k, c)``, float64; as cheap to use as ``k`` is small.
        ridge: :math:`\varepsilon > 0`, ``()``.

    >>> law = low_rank_gaussian(torch.zeros(2), torch.eye(2).double(), torch.tensor(3.0))
    >>> law.distance(torch.tensor([[4.0, 0.0]])).item()
    2.0
    """
    identity = torch.eye(root.shape[-2], dtype=root.dtype, device=root.device)
    lower = torch.linalg.cholesky(ridge.to(root) * identity + root @ root.mT)
    factor = torch.linalg.solve_triangular(lower, root, upper=False)
    return LowRankGaussian(mean.float(), factor.float(), ridge.float())
