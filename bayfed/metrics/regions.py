"""Defect regions on the grid of a score map, none of them lost by the change of size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Regions = NDArray[np.int32]

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=np.bool_)
HALF = 0.5
"""Covered part of a cell from which on it is defective."""


def label_regions(mask: Mask) -> Regions:
    """Number the 8-connected regions of ``(h, w)`` from 1; 0 is good.

    >>> label_regions(np.array([[True, False, True]])).tolist()
    [[1, 0, 2]]
    """
    labels, _ = ndimage.label(mask, structure=EIGHT_NEIGHBOURS)
    return np.asarray(labels, np.int32)


def scale_regions(mask: Mask, size: int) -> Regions:
    """Bring the regions of a mask of any shape to ``(size, size)``.

    Regions are counted where they were marked: two that a coarse grid would merge stay two,
    and one that is thinner than a cell keeps the cell that it covers most of. Other cells
    belong to the region with the largest part of them if at least half of them is defective.

    Args:
        mask: ``(h, w)``, true where defective.
        size: side of the map, in cells.

    Returns:
        ``(size, size)``: 0, or the number of the region.

    >>> speck = np.zeros((90, 90), bool)
    >>> speck[44, 44] = True  # a ninetieth of the side, on a grid of nine
    >>> scale_regions(speck, 9).sum().item()
    1
    """
    labels = label_regions(_enlarged(mask, size))
    rows, columns = np.nonzero(labels)
    height, width = labels.shape
    cells = (rows * size // height) * size + columns * size // width
    # One number a pair: sorting pairs takes ten times as long.
    base = int(labels.max()) + 1
    pairs, counts = np.unique(cells * base + labels[rows, columns], return_counts=True)
    found = np.stack(np.divmod(pairs, base))
    scaled = np.zeros(size * size, np.int32)
    covered = np.bincount(cells, minlength=size * size) >= HALF * height * width / size**2
    order = np.argsort(counts, kind="stable")  # the largest part of a cell is written last
    where, what = found[:, order]
    scaled[where[covered[where]]] = what[covered[where]]
    return _with_lost(scaled, where, what).reshape(size, size)


def _with_lost(scaled: Regions, where: NDArray[np.int64], what: NDArray[np.int64]) -> Regions:
    """Give each region that has no cell the one that it covers most of."""
    best = dict(zip(what.tolist(), where.tolist(), strict=True))  # ascending counts: the last wins
    present = set(np.unique(scaled).tolist())
    for region, cell in best.items():
        if region not in present:
            scaled[cell] = region
    return scaled


def _enlarged(mask: Mask, size: int) -> Mask:
    """Repeat rows and columns until there is one of each for every cell."""
    height, width = (max(side, size) for side in mask.shape)
    rows = np.arange(height) * mask.shape[0] // height
    columns = np.arange(width) * mask.shape[1] // width
    return np.asarray(mask[np.ix_(rows, columns)], np.bool_)
