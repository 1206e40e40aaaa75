"""The greedy coreset: few points that cover all others."""

from __future__ import annotations

import torch
from torch import Tensor


def greedy_coreset(points: Tensor, number: int, members: Tensor | None = None) -> Tensor:
    r"""Choose points one by one, each the farthest from those before it.

    .. math:: m_{s+1} = \arg\max_i \min_{r \le s} \|x_i - m_r\|

    The first is the one nearest to the mean. The covering radius, the largest distance of a
    point to its nearest chosen one, is at most twice the smallest possible. Several subsets of
    one cloud are covered in step: they share its norms, and a matrix product a step.

    Args:
        points: :math:`x_i`, ``(n, d)``.
        number: Points to choose from each subset, at most as many as it has.
        members: ``(f, n)``, which points each subset has; absent = one subset with all.

    Returns:
        Indices ``(f, number)``, in the order of choice.

    Source: Roth et al. 2022, Algorithm 1; Gonzalez 1985 for the bound.

    >>> greedy_coreset(torch.tensor([[0.0], [4.0], [9.0], [5.0]]), 3).tolist()
    [[1, 2, 0]]
    """
    if members is None:
        members = torch.ones(1, len(points), dtype=torch.bool, device=points.device)
    points = points - points.mean(0)
    norms = points.square().sum(-1)

    def squared(centres: Tensor) -> Tensor:
        """Return the squared distances ``(f, n)`` of all points to ``(f, d)`` centres."""
        products = torch.addmm(norms, centres, points.mT, alpha=-2)
        return products.add_(centres.square().sum(-1, keepdim=True))

    means = members.to(points) @ points / members.sum(-1, keepdim=True)
    newest = squared(means).masked_fill_(~members, torch.inf).argmin(-1)
    distance = torch.full_like(members, torch.inf, dtype=points.dtype)
    distance.masked_fill_(~members, -torch.inf)
    chosen = [newest]
    for _ in range(number - 1):
        torch.minimum(distance, squared(points[newest]), out=distance)
        newest = distance.argmax(-1)
        chosen.append(newest)
    return torch.stack(chosen, dim=-1)
