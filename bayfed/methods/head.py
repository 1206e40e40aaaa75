"""The head: a linear map from tokens to the embeddings that the normal model describes."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bayfed.errors import ConfigError
from bayfed.features import Params
from bayfed.normality import SufficientStatistics, log_determinant
from bayfed.normality.statistics import project, sufficient_statistics  # noqa: F401  # doctest


class Head(NamedTuple):
    r"""The map :math:`z = W x + b`.

    Attributes:
        weight: :math:`W`, ``(d, c)``.
        bias: :math:`b`, ``(d,)``.
    """

    weight: Tensor
    bias: Tensor

    def embed(self, tokens: Tensor) -> Tensor:
        """Map ``(..., c)`` tokens to ``(..., d)`` embeddings.

        >>> Head(torch.eye(2), torch.ones(2)).embed(torch.zeros(1, 2)).tolist()
        [[1.0, 1.0]]
        """
        return F.linear(tokens, self.weight, self.bias)

    def project(self, stats: SufficientStatistics) -> SufficientStatistics:
        r"""Return the statistics of the embeddings from those of the tokens.

        .. math:: (n, \bar x, S) \mapsto (n, W \bar x + b, W S W^\top)

        >>> stats = sufficient_statistics(torch.tensor([[0.0], [2.0]]))
        >>> Head(torch.tensor([[3.0]]), torch.ones(1)).project(stats).mean.item()
        4.0
        """
        projected = project(stats, self.weight.mT)
        return projected._replace(mean=projected.mean + self.bias)

    def log_volume(self) -> Tensor:
        r"""Return how the map scales volumes, so that densities before and behind it compare.

        .. math:: \tfrac12 \ln\left|W W^\top\right| \quad (d \le c)

        With :math:`d = c` it is :math:`\ln|\det W|`.

        >>> round(Head(2 * torch.eye(3), torch.zeros(3)).log_volume().item(), 4)  # 3 ln 2
        2.0794
        """
        return 0.5 * log_determinant(self.weight @ self.weight.mT)


def initial_head(channels: int, embedding: int | None, generator: torch.Generator) -> Params:
    """Return the identity, or random orthonormal rows for another output dimension.

    Raises:
        ConfigError: more dimensions are asked for than there are channels.

    >>> initial_head(4, None, torch.Generator())["head.weight"].trace().item()
    4.0
    """
    if embedding is not None and embedding > channels:
        raise ConfigError(f"method.embedding: {embedding} is more than the {channels} channels")
    if embedding is None:
        weight = torch.eye(channels)
    else:
        weight = torch.empty(embedding, channels)
        torch.nn.init.orthogonal_(weight, generator=generator)
    return {"head.weight": weight, "head.bias": torch.zeros(weight.shape[0])}


def identity_head(like: Tensor) -> Head:
    """Return the identity on vectors of ``like``'s dimension, type and device.

    >>> identity_head(torch.zeros(2)).weight.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    weight = torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)
    return Head(weight, torch.zeros_like(like))
