"""Symmetric matrices without their upper half."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def pack(matrix: Tensor) -> Tensor:
    """Return the lower triangles ``(..., d (d + 1) / 2)`` of ``(..., d, d)`` matrices, by rows.

    >>> pack(torch.tensor([[1.0, 2.0], [2.0, 3.0]])).tolist()
    [1.0, 2.0, 3.0]
    """
    rows, columns = _triangle(matrix.shape[-1], matrix.device)
    return matrix[..., rows, columns]


def unpack(triangle: Tensor) -> Tensor:
    """Return the symmetric matrices ``(..., d, d)`` of ``(..., d (d + 1) / 2)`` triangles.

    >>> unpack(torch.tensor([1.0, 2.0, 3.0])).tolist()
    [[1.0, 2.0], [2.0, 3.0]]
    """
    dim = packed_dim(triangle.shape[-1])
    rows, columns = _triangle(dim, triangle.device)
    matrix = triangle.new_empty(*triangle.shape[:-1], dim, dim)
    matrix[..., rows, columns] = triangle
    matrix[..., columns, rows] = triangle
    return matrix


def packed_dim(length: int) -> int:
    """Return the dimension of the matrix whose triangle has ``length`` numbers.

    >>> packed_dim(6)
    3
    """
    return (math.isqrt(8 * length + 1) - 1) // 2


def _triangle(dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows, columns = torch.tril_indices(dim, dim, device=device)
    return rows, columns
