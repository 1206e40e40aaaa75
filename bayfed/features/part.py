"""A run of a token's channels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bayfed.features.tail import Params


@dataclass(frozen=True)
class PartTail:
    """Takes tokens that a tail has given, and keeps the channels ``first`` to ``last`` - 1."""

    first: int
    last: int
    convolves: bool = False

    @property
    def channels(self) -> int:
        """Channels that are kept."""
        return self.last - self.first

    def initial(self, generator: torch.Generator) -> Params:
        """Return no parameters."""
        del generator
        return {}

    def __call__(self, params: Params, stored: Tensor) -> Tensor:
        """Return the part of ``(..., c)`` tokens."""
        del params
        return stored[..., self.first : self.last]
