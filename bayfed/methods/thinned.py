"""A memory that stays within bounds: some of many patches."""

from __future__ import annotations

import torch
from torch import Tensor

from bayfed.seeds import torch_stream


def thinned(patches: Tensor, number: int) -> Tensor:
    """Return ``number`` of ``(n, c)`` patches, all if there are no more, in their order.

    The choice is scattered, as an even one would meet the same places of the grid in each
    image; it depends on ``n`` alone, so a support always gives the same memory.

    >>> len(thinned(torch.zeros(100, 2), 30)), len(thinned(torch.zeros(20, 2), 30))
    (30, 20)
    """
    if len(patches) <= number:
        return patches
    order = torch.randperm(len(patches), generator=torch_stream(0, "thinned", len(patches)))
    return patches[order[:number].sort().values.to(patches.device)]
