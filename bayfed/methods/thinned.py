"""A memory that stays within bounds: some of many patches."""

from __future__ import annotations

import torch
from torch import Tensor

from bayfed.seeds import torch_stream


def thinned(number: int, most: int) -> Tensor:
    """Return the indices of ``most`` out of ``number`` patches, of all if there are no more.

    The choice is scattered, as an even one would meet the same places of the grid in each
    image; it depends on the numbers alone, so a support always gives the same memory.

    >>> len(thinned(100, 30)), thinned(3, 30).tolist()
    (30, [0, 1, 2])
    """
    if number <= most:
        return torch.arange(number)
    order = torch.randperm(number, generator=torch_stream(0, "thinned", number))
    return order[:most].sort().values
