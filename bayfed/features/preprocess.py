"""From a decoded picture to the network's square input."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def square(pixels: NDArray[np.uint8], size: int) -> Tensor:
    """Squash a picture to ``size`` x ``size`` by antialiased bilinear interpolation.

    Args:
        pixels: ``(H, W, 3)`` RGB, 8 bit.
        size: Side of the result in pixels.

    Returns:
        ``(3, size, size)`` uint8.

    >>> square(np.zeros((4, 8, 3), np.uint8), 2).shape
    torch.Size([3, 2, 2])
    """
    image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    if image.shape[-2:] != (size, size):
        image = F.interpolate(image, (size, size), mode="bilinear", antialias=True)
    return image[0]


def token_mask(mask: NDArray[np.bool_], grid: int) -> Tensor:
    """Mark the tokens of a ``grid`` x ``grid`` map that a defect touches.

    Picture and map cover the same square, so a token's cell is cut from the mask at its
    full resolution: no defect is too small to be seen.

    Args:
        mask: ``(H, W)``.
        grid: Side of the token grid.

    Returns:
        ``(grid * grid,)`` uint8, 0 or 1.

    >>> token_mask(np.eye(4, dtype=bool), 2).tolist()
    [1, 0, 0, 1]
    """
    pixels = torch.from_numpy(np.ascontiguousarray(mask)).float()[None, None]
    return F.adaptive_max_pool2d(pixels, (grid, grid)).flatten().to(torch.uint8)
