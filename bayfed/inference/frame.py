"""The part of an image that is inspected, and the tiles that it is seen in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayfed.data import Pixels
from bayfed.errors import ConfigError, DataError

OVERLAP = 0.125
"""Share of a tile's tokens that the next one has too: a defect on a seam is seen whole."""
MOST_TILES = 16
"""A side; 256 passes through the backbone an image."""


class Box(NamedTuple):
    """A rectangle in pixels of the image: its left upper corner and its size."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Frame:
    """Region of interest and tiles.

    Attributes:
        roi: The part that is inspected; None = the whole image.
        tiles: ``N`` of the ``N x N`` overlapping tiles that the part is seen in.

    Raises:
        ConfigError: the part is empty or starts outside the image, or the tiles are too many.
    """

    roi: Box | None = None
    tiles: int = 1

    def __post_init__(self) -> None:
        if self.roi is not None and (min(self.roi[:2]) < 0 or min(self.roi[2:]) < 1):
            raise ConfigError(f"roi: {','.join(map(str, self.roi))} is no box x,y,width,height")
        if not 1 <= self.tiles <= MOST_TILES:
            raise ConfigError(f"tiles: {self.tiles} is not between 1 and {MOST_TILES}")

    def box(self, shape: tuple[int, ...], place: str) -> Box:
        """Return the inspected part of an image of shape ``(H, W, ...)``.

        Raises:
            DataError: it is not inside the image.

        >>> Frame(Box(10, 0, 20, 20)).box((100, 25), "x.png")
        Traceback (most recent call last):
        bayfed.errors.DataError: x.png: 25 x 100 pixels do not hold the region 10,0,20,20
        """
        height, width = shape[:2]
        box = self.roi or Box(0, 0, width, height)
        if box.x + box.width > width or box.y + box.height > height:
            text = ",".join(map(str, box))
            raise DataError(f"{place}: {width} x {height} pixels do not hold the region {text}")
        return box

    def check(self, shape: tuple[int, ...], place: str) -> Box:
        """Return the inspected part, if an image of this shape can be inspected.

        Raises:
            DataError: the image does not hold the part, or the part is smaller than its tiles.
        """
        box = self.box(shape, place)
        if min(box.width, box.height) < self.tiles:
            raise DataError(f"{place}: {box.width} x {box.height} pixels are too few for the tiles")
        return box

    def cut(self, pixels: Pixels, place: str) -> list[Pixels]:
        """Return the tiles of the inspected part, row by row.

        Raises:
            DataError: the image does not hold the part, or the part is smaller than its tiles.
        """
        box = self.check(pixels.shape, place)
        inside = pixels[box.y : box.y + box.height, box.x : box.x + box.width]
        rows, columns = (self.spans(side) for side in inside.shape[:2])
        return [inside[top:bottom, left:right] for top, bottom in rows for left, right in columns]

    def spans(self, side: int) -> list[tuple[int, int]]:
        """Return where the tiles of a side of the part begin and end, all of one length.

        In whole numbers alone, so that a graph that is traced for sides of any length has the same.

        >>> Frame(tiles=2).spans(30)
        [(0, 16), (14, 30)]
        """
        shares = round((self.tiles - (self.tiles - 1) * OVERLAP) / OVERLAP)
        tile = (side * round(1 / OVERLAP) + shares - 1) // shares
        last = max(1, self.tiles - 1)
        starts = (_rounded((side - tile) * number, last) for number in range(self.tiles))
        return [(start, start + tile) for start in starts]

    def together(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the map of the inspected part from ``(N * N, g, g)`` maps of its tiles.

        Where tiles overlap, the higher surprise counts.

        >>> Frame(tiles=2).together(np.ones((4, 8, 8), np.float32)).shape
        (15, 15)
        """
        highest: NDArray[np.float32] = tiles.reshape(-1)[self.cells(tiles.shape[-1])].max(-1)
        return highest

    def cells(self, grid: int) -> NDArray[np.intp]:
        """Return which cells of the ``(N * N, g, g)`` maps lie on each cell of the whole map.

        Args:
            grid: Side ``g`` of a tile's map.

        Returns:
            ``(h, w, n)`` numbers of cells; one that is alone comes ``n`` times.

        >>> Frame().cells(2).tolist()
        [[[0], [1]], [[2], [3]]]
        """
        step = grid - round(OVERLAP * grid) if self.tiles > 1 else grid
        side = step * (self.tiles - 1) + grid
        lying: list[list[tuple[int, int]]] = [[] for _ in range(side)]
        for tile in range(self.tiles):
            for cell in range(grid):
                lying[step * tile + cell].append((tile, cell))
        deepest = max(map(len, lying))
        tile, cell = np.moveaxis(np.array([(deepest * one)[:deepest] for one in lying]), -1, 0)
        row = tile[:, None, :, None] * self.tiles + tile[None, :, None, :]
        inside = cell[:, None, :, None] * grid + cell[None, :, None, :]
        return np.asarray(row * grid**2 + inside).reshape(side, side, -1)


def _rounded(part: int, whole: int) -> int:
    """Return the whole number nearest to ``part / whole``, of two as near the even one.

    >>> [_rounded(part, 2) for part in (1, 3, 4)]
    [0, 2, 2]
    """
    return (2 * part + whole - 1 + part // whole % 2) // (2 * whole)


def placed(
    surprise: NDArray[np.float32], box: Box, shape: tuple[int, ...], beyond: float
) -> NDArray[np.float32]:
    """Return a map of the whole image from that of its part, cells about as large as before.

    Args:
        surprise: ``(h, w)`` of the part.
        box: The part, in pixels.
        shape: ``(H, W, ...)`` of the image.
        beyond: Value outside the part.

    >>> placed(np.ones((2, 2), np.float32), Box(5, 0, 5, 5), (5, 10), 0.0).tolist()
    [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]
    """
    rows, columns = surprise.shape
    tall, wide = box.height / rows, box.width / columns
    whole = (max(rows, round(shape[0] / tall)), max(columns, round(shape[1] / wide)))
    canvas = np.full(whole, beyond, np.float32)
    top = min(round(box.y / tall), whole[0] - rows)
    left = min(round(box.x / wide), whole[1] - columns)
    canvas[top : top + rows, left : left + columns] = surprise
    return canvas


def parse_roi(text: str) -> Box:
    """Return the box that ``x,y,width,height`` means.

    Raises:
        ConfigError: the text is not four whole numbers.

    >>> parse_roi("10,20,300,200")
    Box(x=10, y=20, width=300, height=200)
    """
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"roi: {text!r} is not x,y,width,height in pixels") from None
    return Box(x, y, width, height)
