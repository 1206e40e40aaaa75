"""Distances to the nearest vector of a memory, by products of blocks that fit a cache."""

from __future__ import annotations

import torch
from torch import Tensor

SIDE = 640
"""Queries, and vectors of the memory, of one product: both in a core's own cache."""


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
    best = _largest(queries, memory, offset)
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
    return 1 - _largest(queries, memory)


def _largest(queries: Tensor, memory: Tensor, offset: Tensor | None = None) -> Tensor:
    """Return the largest of each query's products with the memory, plus an offset, ``(n,)``."""
    found = []
    for first in range(0, len(queries), SIDE):
        part = queries[first : first + SIDE]
        best = part.new_full((len(part),), -torch.inf)
        for start in range(0, len(memory), SIDE):
            some = memory[start : start + SIDE].mT
            if offset is None:
                products = part @ some
            else:
                products = torch.addmm(offset[start : start + SIDE], part, some)
            torch.maximum(best, products.amax(-1), out=best)
        found.append(best)
    return torch.cat(found)
