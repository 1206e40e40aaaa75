"""Views of an image: runs of the channels that the trunk gives, each on a grid of its own.

A store keeps one ``(t, c)`` array an image. A map that is coarser than the grid is packed into
it without a copy of any value: a token of the coarse map lies, a part of its channels each, in
the tokens of the block that it covers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from bayfed.features.maps import to_tokens
from bayfed.features.tail import Params, Tail


def pack(maps: Tensor, factor: int) -> Tensor:
    """Spread ``(n, c, h, w)`` maps over ``(n, c / factor**2, h * factor, w * factor)``.

    >>> pack(torch.arange(4.0).reshape(1, 4, 1, 1), 2).squeeze().tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    return F.pixel_shuffle(maps, factor)


def to_maps(tokens: Tensor) -> Tensor:
    """Return ``(n, t, c)`` tokens of a square grid as ``(n, c, h, w)`` maps.

    >>> to_maps(torch.zeros(2, 9, 8)).shape
    torch.Size([2, 8, 3, 3])
    """
    side = round(tokens.shape[1] ** 0.5)
    return tokens.mT.reshape(len(tokens), -1, side, side)


def refine(values: Tensor, tokens: int) -> Tensor:
    """Bring ``(n, t)`` values of the tokens of a grid to another one of ``tokens`` in all.

    >>> refine(torch.tensor([[3.0]]), 4).tolist()
    [[3.0, 3.0, 3.0, 3.0]]
    """
    if values.shape[1] == tokens:
        return values
    side = round(tokens**0.5)
    maps = to_maps(values[..., None])
    return F.interpolate(maps, (side, side), mode="bilinear", align_corners=False).flatten(1)


class OnGrid(NamedTuple):
    """The tail of a view, and the side of the grid that its tokens lie on."""

    tail: Tail
    grid: int


@dataclass(frozen=True)
class PartTail:
    """Takes the channels ``first`` to ``last`` - 1 of the trunk's tokens.

    Attributes:
        first: The first channel.
        last: The channel behind the last.
        factor: How many times coarser than the tokens the packed map is; 1 = not packed.
    """

    first: int
    last: int
    factor: int = 1

    @property
    def channels(self) -> int:
        """Channels of a token of the view."""
        return (self.last - self.first) * self.factor**2

    @property
    def convolves(self) -> bool:
        """Whether a token of the view lies in several of the trunk's."""
        return self.factor > 1

    def initial(self, generator: Generator) -> Params:
        """Return no parameters."""
        del generator
        return {}

    def __call__(self, params: Params, stored: Tensor) -> Tensor:
        """Return the view's tokens in float32."""
        del params
        part = stored[..., self.first : self.last].float()
        return (
            part if self.factor == 1 else to_tokens(F.pixel_unshuffle(to_maps(part), self.factor))
        )


@dataclass(frozen=True)
class JoinedTail:
    """All views side by side on the grid of the first, for methods that know of one only."""

    views: tuple[Tail, ...]

    @property
    def channels(self) -> int:
        """Channels of all views."""
        return sum(view.channels for view in self.views)

    @property
    def convolves(self) -> bool:
        """Whether any of them does."""
        return any(view.convolves for view in self.views)

    def initial(self, generator: Generator) -> Params:
        """Draw the parameters of all views."""
        return {k: v for view in self.views for k, v in view.initial(generator).items()}

    def __call__(self, params: Params, stored: Tensor) -> Tensor:
        """Return the channels of all views, coarse maps interpolated."""
        first, *others = (view(params, stored) for view in self.views)
        return torch.cat([first, *(_on_grid(other, first.shape[1]) for other in others)], dim=-1)


def _on_grid(tokens: Tensor, number: int) -> Tensor:
    if tokens.shape[1] == number:
        return tokens
    batch, _, channels = tokens.shape
    return refine(tokens.mT.flatten(0, 1), number).reshape(batch, channels, number).mT
