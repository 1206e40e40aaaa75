"""A picture that is seen in parts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bayfed.features.tail import Params, Tail


@dataclass(frozen=True)
class TiledTail:
    """Runs a tail on each tile of a picture, and puts their tokens in a row.

    Attributes:
        tail: Of one tile.
    """

    tail: Tail

    @property
    def channels(self) -> int:
        """Channels of a token."""
        return self.tail.channels

    @property
    def convolves(self) -> bool:
        """Whether a token depends on others."""
        return self.tail.convolves

    def initial(self, generator: torch.Generator) -> Params:
        """Draw the parameters of round 0."""
        return self.tail.initial(generator)

    def __call__(self, params: Params, stored: Tensor) -> Tensor:
        """Map ``(n, tiles, ...)`` trunk outputs to ``(n, tiles * t, c)`` tokens."""
        tokens = self.tail(params, stored.flatten(0, 1))
        return tokens.reshape(len(stored), -1, tokens.shape[-1])
