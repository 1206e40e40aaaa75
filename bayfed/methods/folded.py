"""A Student-t law of embeddings as a function of the tokens that a linear head maps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bayfed.methods.head import Head
from bayfed.normality import StudentT, f_law_p_value
from bayfed.normality.student_t import log_density


class FoldedT(NamedTuple):
    r"""The law of :math:`z = W x + b` with whitening and head folded into one map.

    .. math:: \Delta^2(x) = \lVert A x - a \rVert^2, \quad
        A = L^{-1} W, \quad a = L^{-1} (m - b)

    A token costs one product with a ``(d, c)`` matrix, not one with the head and one
    triangular solve.

    Attributes:
        weight: :math:`A`, ``(..., d, c)``.
        offset: :math:`a`, ``(..., d)``.
        half_log_determinant: :math:`\ln|L|`, ``(...)``.
        dof: :math:`v`, ``(...)``.
        location: :math:`m`, ``(..., d)``.
    """

    weight: Tensor
    offset: Tensor
    half_log_determinant: Tensor
    dof: Tensor
    location: Tensor

    def distance(self, tokens: Tensor) -> Tensor:
        """Return the squared Mahalanobis distances ``(..., n)`` of ``(..., n, c)`` tokens."""
        return (tokens @ self.weight.mT - self.offset[..., None, :]).square().sum(-1)

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Return the log density of the tokens' embeddings, in nats, ``(..., n)``."""
        distance = self.distance(tokens)
        return log_density(distance, self.half_log_determinant, self.dof, self.offset.shape[-1])

    def p_value(self, tokens: Tensor) -> Tensor:
        """Return each token's p-value under the F law, ``(..., n)``; not differentiable."""
        return f_law_p_value(self.distance(tokens), self.dof, self.offset.shape[-1])


def fold(law: StudentT, head: Head) -> FoldedT:
    """Fold the whitening of ``law`` into ``head``; batch shape as that of the law.

    >>> law = StudentT(torch.zeros(2), 2 * torch.eye(2), torch.tensor(3.0))
    >>> folded = fold(law, Head(torch.eye(2), torch.zeros(2)))
    >>> folded.distance(torch.tensor([[2.0, 2.0]])).tolist()
    [2.0]
    """
    factor = law.scale_cholesky
    centre = (law.location - head.bias)[..., None]
    columns = torch.cat([head.weight.expand(*factor.shape[:-1], -1), centre], dim=-1)
    solved: Tensor = torch.linalg.solve_triangular(factor, columns, upper=False)
    half = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return FoldedT(solved[..., :-1], solved[..., -1], half, law.dof, law.location)
