"""The head: a linear map from tokens to the embeddings that the normal model describes."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bayfed.features import Params
from bayfed.normality import log_determinant


class Head(NamedTuple):
    r"""The map :math:`z = W x + b`.

    Attributes:
        weight: :math:`W`, ``(d, c)``.
        bias: :math:`b`, ``(d,)``.
    """

    weight: Tensor
    bias: Tensor

    def embed(self, tokens: Tensor, normalise: bool) -> Tensor:
        """Map ``(..., c)`` tokens to ``(..., d)`` embeddings, with LayerNorm when asked.

        >>> Head(torch.eye(2), torch.ones(2)).embed(torch.zeros(1, 2), False).tolist()
        [[1.0, 1.0]]
        """
        embedded = F.linear(tokens, self.weight, self.bias)
        return F.layer_norm(embedded, embedded.shape[-1:]) if normalise else embedded

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

    >>> initial_head(4, None, torch.Generator())["head.weight"].trace().item()
    4.0
    """
    if embedding is None:
        weight = torch.eye(channels)
    else:
        weight = torch.empty(embedding, channels)
        torch.nn.init.orthogonal_(weight, generator=generator)
    return {"head.weight": weight, "head.bias": torch.zeros(weight.shape[0])}
