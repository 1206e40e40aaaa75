"""Distances to the nearest vector of a memory, by matrix products in pieces that fit a cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

PIECE = 1 << 21
"""Products held at once, in numbers."""


def nearest_distance(queries: Tensor, memory: Tensor) -> Tensor:
    r"""Return the Euclidean distance of each query to the nearest memory vector, ``(n,)``.

    .. math:: \min_j \|q - m_j\|^2 = \|q\|^2 - 2 \max_j (q^\top m_j - \tfrac12 \|m_j\|^2)

    Both are centred first, so that little is lost in the difference.

    Args:
        queries: :math:`q`, ``(n, c)``.
        memory: :math:`m_j`, ``(m, c)``.

    >>> nearest_distance(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0], [9.0, 4.0]])).item()
    5.0
    """
    centre = memory.mean(0)
    queries, memory = queries - centre, memory - centre
    offset = -0.5 * memory.square().sum(-1)
    best = torch.cat(
        [torch.addmm(offset, part, memory.mT).amax(-1) for part in _pieces(queries, memory)]
    )
    return (queries.square().sum(-1) - 2 * best).clamp(min=0).sqrt()


def cosine_distance(queries: Tensor, memory: Tensor) -> Tensor:
    r"""Return the cosine distance of each query to the nearest memory vector, ``(n,)``.

    .. math:: 1 - \max_j q^\top m_j

    Args:
        queries: :math:`q`, unit vectors ``(n, c)``.
        memory: :math:`m_j`, unit vectors ``(m, c)``.

    >>> cosine_distance(torch.eye(2), torch.tensor([[1.0, 0.0]])).tolist()
    [0.0, 1.0]
    """
    return 1 - torch.cat([(part @ memory.mT).amax(-1) for part in _pieces(queries, memory)])


def _pieces(queries: Tensor, memory: Tensor) -> Iterator[Tensor]:
    rows = max(1, PIECE // len(memory))
    return (queries[i : i + rows] for i in range(0, len(queries), rows))
