"""Surprise as colours over a picture, on one scale; needs NumPy and Pillow alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bayfed.errors import DataError, NumericalError

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]

COLOUR_MAP = "inferno"
PICTURE_SHARE = 0.3
"""Weight of the grey picture under the map: enough to see the part, dark where it is normal."""
LEGEND_GREY = 0.4
"""Brightness of the picture that legends stand for."""
CONTOUR = (255, 255, 255)
OUTLINE = (86, 180, 233)


@dataclass(frozen=True)
class ColourScale:
    """Surprise at the dark and at the bright end, and where the decision lies between them.

    Attributes:
        low: Drawn dark.
        high: Drawn bright.
        threshold: Where the decision lies; None = there is none.
        palette: The colours between; None = those of :func:`palette`.
    """

    low: float
    high: float
    threshold: float | None = None
    palette: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        numbers = [self.low, self.high, *([] if self.threshold is None else [self.threshold])]
        if not all(math.isfinite(number) for number in numbers):
            raise NumericalError("colour scale: not all limits are finite")
        if self.low >= self.high:
            raise DataError(f"colour scale: low {self.low} is not below high {self.high}")

    def position(self, surprise: NDArray[np.floating] | float) -> NDArray[np.float64]:
        """Return where ``surprise`` lies on the scale: 0 at ``low``, 1 at ``high``, clipped."""
        share = (np.asarray(surprise, np.float64) - self.low) / (self.high - self.low)
        return np.clip(share, 0.0, 1.0)


@cache
def palette() -> bytes:
    """Return the RGB bytes of the colour map, from dark to bright.

    >>> len(palette()) // 3
    256
    """
    from matplotlib import colormaps  # late: who has the colours in a file need not have it

    colours = colormaps[COLOUR_MAP](np.arange(256))[:, :3]
    return np.round(255 * np.asarray(colours)).astype(np.uint8).tobytes()


def surprise_colours(
    position: NDArray[np.float64], grey: NDArray[np.float64] | float, colours: bytes | None = None
) -> Rgb:
    """Return the colours of positions on the scale over a picture of brightness ``grey``.

    (1 - w) C(u) + w g

    Args:
        position: (...) u, in [0, 1].
        grey: (...) or a number, g in [0, 1].
        colours: RGB bytes of the map, from dark to bright; None = those of :func:`palette`.

    Returns:
        (..., 3) colours; C is a map whose brightness grows with u, from black.

    >>> surprise_colours(np.array([0.0]), 0.0)[0].max() < 5
    np.True_
    """
    table = np.frombuffer(colours or palette(), np.uint8).reshape(-1, 3) / 255.0
    index = np.minimum((position * len(table)).astype(int), len(table) - 1)
    under = np.broadcast_to(grey, position.shape)[..., None]
    mixed = (1.0 - PICTURE_SHARE) * table[index] + PICTURE_SHARE * under
    rounded: Rgb = np.round(255.0 * mixed).astype(np.uint8)
    return rounded


def surprise_over(
    picture: Rgb, surprise: NDArray[np.floating], scale: ColourScale, line: int = 1
) -> Rgb:
    """Return ``surprise`` over the grey ``picture``, which may be of another size.

    The colours depend on ``scale`` alone, never on the image's own extremes. A white line of
    ``line`` pixels surrounds what is at or above the threshold.
    """
    height, width = picture.shape[:2]
    image = Image.fromarray(surprise.astype(np.float32))
    enlarged = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    grey = picture.mean(axis=2) / 255.0
    overlay = surprise_colours(scale.position(enlarged), grey, scale.palette)
    if scale.threshold is not None:
        paint(overlay, _edge(enlarged >= scale.threshold, line), CONTOUR)
    return overlay


def fitted(image: Rgb, side: int) -> Rgb:
    """Return ``image`` with ``side`` pixels on its longest side."""
    height, width = image.shape[:2]
    ratio = side / max(height, width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _edge(region: Mask, width: int) -> Mask:
    """Return what of a region is less than ``width`` steps from its outside, in the picture."""
    inside = region
    for _ in range(width):
        padded = np.pad(inside, 1, constant_values=True)
        inside = (
            inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        )
    return region & ~inside


def paint(image: Rgb, where: Mask, colour: tuple[int, int, int]) -> None:
    """Give the pixels at ``where`` one colour."""
    image[where] = colour
