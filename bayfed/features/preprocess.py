"""From a decoded picture to the network's input."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Shape = tuple[int, int]
"""Height and width in pixels."""
STEP = 16
"""Sides of an input that is no square are multiples of it, so that no stage cuts its map."""

LARGEST = 2**22
"""Pixels of an input, at most: a file that asks for more would end the process, not raise."""


def input_shape(ratio: float, size: int) -> Shape:
    """Return the shape with about ``size ** 2`` pixels whose height over width is about ``ratio``.

    >>> input_shape(512 / 203, 224), input_shape(1.02, 224)
    ((352, 144), (224, 224))
    """
    root = math.sqrt(ratio)
    height, width = (max(1, round(side / STEP)) * STEP for side in (size * root, size / root))
    return height, width


def resized(pixels: NDArray[np.uint8], shape: Shape) -> Tensor:
    """Bring a picture to ``shape`` by antialiased bilinear interpolation.

    Args:
        pixels: ``(H, W, 3)`` RGB, 8 bit.
        shape: Height and width of the result in pixels.

    Returns:
        ``(3, *shape)`` uint8.

    >>> resized(np.zeros((4, 8, 3), np.uint8), (2, 2)).shape
    torch.Size([3, 2, 2])
    """
    image = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).permute(2, 0, 1)[None]
    if image.shape[-2:] != shape:
        image = F.interpolate(image, shape, mode="bilinear", antialias=True)
    return image[0]


def token_mask(mask: NDArray[np.bool_], grid: int) -> Tensor:
    """Mark the tokens of a ``grid`` x ``grid`` map that a defect touches.

    Picture and map cover the same frame, so a token's cell is cut from the mask at its
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
