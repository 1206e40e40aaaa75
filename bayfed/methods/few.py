"""The laws behind a support of fewer vectors than dimensions: nothing d x d is formed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bayfed.methods.folded import FoldedT, fold
from bayfed.methods.head import Head
from bayfed.normality import (
    NIW,
    DiagonalNIW,
    LowRankT,
    StudentT,
    low_rank_posterior,
    low_rank_predictive,
    safe_cholesky,
)


class EmbeddedT(NamedTuple):
    """A low-rank law of ``z = W x + b`` as a function of the tokens ``x``.

    Attributes:
        law: Law of the embeddings, batch shape ``(...)``.
        head: The linear map.
    """

    law: LowRankT
    head: Head

    @property
    def location(self) -> Tensor:
        """Location of the embeddings, ``(..., d)``."""
        return self.law.location

    @property
    def dof(self) -> Tensor:
        """Degrees of freedom, ``(...)``."""
        return self.law.dof

    def distance(self, tokens: Tensor) -> Tensor:
        """Return the squared Mahalanobis distances ``(..., n)`` of ``(..., n, c)`` tokens."""
        return self.law.mahalanobis(self.head.embed(tokens))

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Return the log density of the tokens' embeddings, in nats, ``(..., n)``."""
        return self.law.log_prob(self.head.embed(tokens))

    def p_value(self, tokens: Tensor) -> Tensor:
        """Return each token's p-value under the F law, ``(..., n)``; not differentiable."""
        return self.law.p_value(self.head.embed(tokens))


def dense(law: EmbeddedT) -> FoldedT:
    """Return the same law with its scale matrix formed, for who has no triangular solve.

    >>> prior = NIW(torch.zeros(1), torch.tensor(1.0), torch.tensor(2.0), torch.eye(1))
    >>> law = whole_law(prior, torch.tensor([[0.0], [2.0]]), Head(torch.eye(1), torch.zeros(1)))
    >>> one = torch.ones(1, 1)
    >>> bool(torch.isclose(dense(law).distance(one), law.distance(one)))
    True
    """
    low = law.law
    scale = torch.diag_embed(low.diagonal) + low.factor @ low.factor.mT
    return fold(StudentT(low.location, safe_cholesky(scale), low.dof), law.head)


def whole_law(prior: NIW, vectors: Tensor, head: Head) -> EmbeddedT:
    """Return the predictive behind ``head`` given ``(k, c)`` vectors.

    Args:
        prior: Of the embeddings; its scale matrix is diagonal.
        vectors: One an image.
        head: Maps them to embeddings.
    """
    diagonal = DiagonalNIW(prior.mean, prior.kappa, prior.nu, prior.scale.diagonal())
    return EmbeddedT(low_rank_predictive(low_rank_posterior(diagonal, head.embed(vectors))), head)


def others_law(prior: NIW, vectors: Tensor, head: Head) -> EmbeddedT:
    """Return, for each of ``(k, c)`` vectors, the predictive given all the others.

    >>> prior = NIW(torch.zeros(1), torch.tensor(1.0), torch.tensor(2.0), torch.eye(1))
    >>> vectors = torch.tensor([[0.0], [2.0], [4.0]])
    >>> others_law(prior, vectors, Head(torch.eye(1), torch.zeros(1))).location.flatten().tolist()
    [2.0, 1.3333333730697632, 0.6666666865348816]
    """
    number = vectors.shape[0]
    every = torch.arange(number, device=vectors.device).expand(number, number)
    kept = ~torch.eye(number, dtype=torch.bool, device=vectors.device)
    return whole_law(prior, vectors[every[kept].reshape(number, number - 1)], head)
