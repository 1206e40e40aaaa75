"""How unlike the updates of a round are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from strategies.task import Params


def spread(updates: Sequence[Params]) -> tuple[float, float]:
    r"""Return how far updates lie from their mean, and how alike their directions are.

    .. math::
        \frac{1}{n} \sum_c \lVert g_c - \bar g \rVert^2, \qquad
        \frac{1}{n (n - 1)} \sum_{c \ne c'} \frac{g_c \cdot g_{c'}}{\lVert g_c \rVert \,
        \lVert g_{c'} \rVert}

    :math:`g_c` are the n updates, all their tensors as one vector; the cosine is nan for one.

    Source: the first is client drift where updates are :math:`\theta - \theta_c`, as in Karimireddy
    et al., SCAFFOLD, 2020, section 4.

    >>> spread([{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}])
    (0.5, 0.0)
    """
    rows = [torch.cat([t.detach().reshape(-1) for t in one.values()]) for one in updates]
    matrix = torch.stack(rows).double()
    drift = float((matrix - matrix.mean(0)).square().sum(1).mean())
    number = len(matrix)
    if number < 2:
        return drift, math.nan
    unit = matrix / matrix.norm(dim=1, keepdim=True).clamp_min(1e-300)
    total = float(unit.sum(0).square().sum() - unit.square().sum())
    return drift, total / (number * (number - 1))
