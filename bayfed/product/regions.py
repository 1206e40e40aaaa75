"""Where in an image a map is above its threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from bayfed.product.frame import Box
from bayfed.product.inspection import Region

FINER = 9
"""Cells a side into which a token is divided; odd, so that one lies where the token's value is."""


def regions_of(surprise: NDArray[np.float32], level: float, box: Box) -> tuple[Region, ...]:
    """Return the connected parts of a map that are at or above ``level``, the highest peak first.

    The map is interpolated bilinearly to ``FINER`` cells a token, so that a region is as fine as
    the map tells, whatever the size of the image.

    Args:
        surprise: ``(h, w)`` on the token grid.
        level: In the units of the map.
        box: What the map covers, in pixels of the image.

    >>> tokens = np.zeros((4, 4), np.float32)
    >>> tokens[1, 2] = 5.0
    >>> [region] = regions_of(tokens, 4.0, Box(100, 0, 40, 40))
    >>> region.x, region.y, region.width, region.height, region.area
    (123, 13, 4, 4, 6)
    """
    if not bool((surprise >= level).any()):
        return ()
    height, width = (FINER * side for side in surprise.shape)
    fine = np.asarray(Image.fromarray(surprise).resize((width, height), Image.Resampling.BILINEAR))
    # The highest token may lose its last digit in the interpolation.
    above = fine >= min(level, float(fine.max()))
    labels = ndimage.label(above)[0]
    found = [
        _region(fine, labels == number, part, box)
        for number, part in enumerate(ndimage.find_objects(labels), start=1)
    ]
    return tuple(sorted(found, key=lambda region: -region.peak))


def _region(
    fine: NDArray[np.float32], inside: NDArray[np.bool_], part: tuple[slice, ...], box: Box
) -> Region:
    tall, wide = box.height / fine.shape[0], box.width / fine.shape[1]
    top, bottom = (round(edge * tall) for edge in (part[0].start, part[0].stop))
    left, right = (round(edge * wide) for edge in (part[1].start, part[1].stop))
    return Region(
        box.x + left,
        box.y + top,
        max(1, right - left),
        max(1, bottom - top),
        max(1, round(int(inside.sum()) * tall * wide)),
        float(fine[inside].max()),
    )
