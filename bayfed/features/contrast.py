"""A token as it stands out from its surroundings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from bayfed.features.tail import PREFIX, Params, Tail

SHARE = f"{PREFIX}contrast"


def surroundings(tokens: Tensor, distance: int) -> Tensor:
    r"""Return the mean of the eight tokens around each one.

    .. math:: r_{ij} = \frac18 \sum_{(a, b) \ne (0, 0)} x_{i + a\delta,\, j + b\delta},
        \quad a, b \in \{-1, 0, 1\}

    where positions outside the grid count as the nearest inside.

    Args:
        tokens: :math:`x`, ``(n, t, c)`` of a square grid, row by row.
        distance: :math:`\delta`, in tokens.

    Returns:
        ``(n, t, c)``.

    >>> surroundings(torch.tensor([[[0.0], [8.0], [0.0], [0.0]]]), 1).flatten().tolist()
    [2.0, 3.0, 1.0, 2.0]
    """
    number, places, channels = tokens.shape
    side = round(places**0.5)
    maps = tokens.reshape(number, side, side, channels).movedim(-1, 1)
    kernel = torch.full((channels, 1, 3, 3), 1 / 8, device=tokens.device, dtype=tokens.dtype)
    kernel[:, :, 1, 1] = 0
    padded = F.pad(maps, (distance,) * 4, mode="replicate")
    found = F.conv2d(padded, kernel, dilation=distance, groups=channels)
    return found.movedim(1, -1).reshape(tokens.shape)


@dataclass(frozen=True)
class ContrastTail:
    r"""Subtracts a learned share of a token's surroundings.

    .. math:: y = x - \beta\, r(x)

    with :math:`r` of :func:`surroundings` and :math:`\beta` a meta-parameter. What a token and
    its surroundings have in common, such as the light of the day, then counts less.

    Attributes:
        inner: Gives the tokens.
        distance: Of the surroundings, in tokens.
        share: :math:`\beta` at round 0.
    """

    inner: Tail
    distance: int
    share: float = 0.0
    convolves: bool = True

    @property
    def channels(self) -> int:
        """Channels of a token."""
        return self.inner.channels

    def initial(self, generator: Generator) -> Params:
        """Return the share of round 0."""
        return self.inner.initial(generator) | {SHARE: torch.tensor(self.share)}

    def __call__(self, params: Params, stored: Tensor) -> Tensor:
        """Map ``(n, ...)`` trunk outputs to ``(n, t, c)`` tokens."""
        tokens = self.inner(params, stored)
        return torch.addcmul(tokens, surroundings(tokens, self.distance), -params[SHARE])
