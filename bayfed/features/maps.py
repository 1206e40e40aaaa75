"""From feature maps of several stages to tokens on one grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def align(maps: Sequence[Tensor], grid: int, smoothing: int) -> Tensor:
    """Smooth each map at its own resolution, bring all to one grid and stack the channels.

    Smoothing before the resize widens the receptive field of a coarse stage more than
    smoothing after it (PatchCore's locally aware patches).

    Args:
        maps: ``(n, c_i, h_i, w_i)`` each.
        grid: Side of the common grid.
        smoothing: Side of the average filter; 1 = none.

    Returns:
        ``(n, sum c_i, grid, grid)``.
    """
    return torch.cat([_resize(smooth(m, smoothing), grid) for m in maps], dim=1)


def smooth(maps: Tensor, side: int) -> Tensor:
    """Average each position with its ``side`` x ``side`` neighbours."""
    return maps if side == 1 else F.avg_pool2d(maps, side, stride=1, padding=side // 2)


def _resize(maps: Tensor, grid: int) -> Tensor:
    if maps.shape[-2:] == (grid, grid):
        return maps
    return F.interpolate(maps, (grid, grid), mode="bilinear", align_corners=False)


def to_tokens(maps: Tensor) -> Tensor:
    """Flatten ``(n, c, h, w)`` maps to ``(n, h * w, c)`` tokens, row by row.

    >>> to_tokens(torch.zeros(2, 8, 3, 3)).shape
    torch.Size([2, 9, 8])
    """
    return maps.flatten(2).transpose(1, 2)


def pooled(maps: Sequence[Tensor]) -> Tensor:
    """Average each map over its positions and stack the channels: one token an image.

    >>> pooled([torch.zeros(2, 8, 3, 3), torch.zeros(2, 4, 1, 1)]).shape
    torch.Size([2, 1, 12])
    """
    return torch.cat([m.mean((2, 3)) for m in maps], dim=1)[:, None, :]
