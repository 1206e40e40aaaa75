"""Where in an image a map is above its threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bayfed.inference.frame import Box, Frame, placed
from bayfed.inference.inspection import Region

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
    labels = labelled(above)
    found = [_region(fine, labels == label, box) for label in np.unique(labels[above])]
    return tuple(sorted(found, key=lambda region: -region.peak))


def located(
    surprise: NDArray[np.float32], frame: Frame, shape: tuple[int, ...], level: float, dark: float
) -> tuple[NDArray[np.float32], tuple[Region, ...]]:
    """Return the map of a whole image and its regions, from the map of the inspected part.

    Args:
        surprise: ``(h, w)`` of the part.
        frame: Which part it is.
        shape: ``(H, W, ...)`` of the image.
        level: The threshold.
        dark: Value outside the part.

    Raises:
        DataError: the image does not hold the part.
    """
    box = frame.box(shape, "image")
    return placed(surprise, box, shape, dark), regions_of(surprise, level, box)


def labelled(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Give the cells of each part that is connected by sides one number, those outside 0.

    Cells that lie side by side are runs; runs that touch are one part.

    >>> labelled(np.array([[True, False, True], [True, False, True]])).tolist()
    [[1, 0, 2], [1, 0, 2]]
    """
    before = np.pad(mask, ((0, 0), (1, 0)))[:, :-1]
    runs = np.where(mask, np.cumsum(mask & ~before).reshape(mask.shape), 0)
    above, below = (part[mask[1:] & mask[:-1]] for part in (runs[:-1], runs[1:]))
    first = list(range(int(runs.max(initial=0)) + 1))

    def part_of(run: int) -> int:
        while first[run] != run:
            first[run] = run = first[first[run]]
        return run

    for one, other in np.unique(np.stack([above, below], 1), axis=0).tolist():
        low, high = sorted((part_of(one), part_of(other)))
        first[high] = low
    return np.array([part_of(run) for run in range(len(first))])[runs]


def _region(fine: NDArray[np.float32], inside: NDArray[np.bool_], box: Box) -> Region:
    tall, wide = box.height / fine.shape[0], box.width / fine.shape[1]
    rows, columns = np.nonzero(inside)
    top, bottom = (round(int(edge) * tall) for edge in (rows.min(), rows.max() + 1))
    left, right = (round(int(edge) * wide) for edge in (columns.min(), columns.max() + 1))
    return Region(
        box.x + left,
        box.y + top,
        max(1, right - left),
        max(1, bottom - top),
        max(1, round(int(inside.sum()) * tall * wide)),
        float(fine[inside].max()),
    )
