"""How the images of a support are left out, so that the others can score them."""

from __future__ import annotations

import torch
from torch import Tensor

SMALL = 10
"""Images up to which each is left out alone."""
FOLDS = 5
"""Parts of a larger support: to leave one out is as near to the whole as one of five images is,
and a hundred images take no longer than five."""


def left_out(number: int) -> list[Tensor]:
    """Return the indices that are left out together, each image once.

    Up to ``SMALL`` images leave one out; more are dealt into ``FOLDS`` parts.

    >>> [part.tolist() for part in left_out(3)]
    [[0], [1], [2]]
    >>> [part.tolist() for part in left_out(12)]
    [[0, 5, 10], [1, 6, 11], [2, 7], [3, 8], [4, 9]]
    """
    parts = number if number <= SMALL else FOLDS
    return [torch.arange(start, number, parts) for start in range(parts)]


def others(part: Tensor, number: int) -> Tensor:
    """Return the indices below ``number`` that are not in ``part``.

    >>> others(torch.tensor([0, 2]), 4).tolist()
    [1, 3]
    """
    kept = torch.ones(number, dtype=torch.bool)
    kept[part] = False
    return kept.nonzero()[:, 0]
