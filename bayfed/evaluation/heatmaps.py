"""Surprise maps over pictures, on one colour scale for all images of a report."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from bayfed.errors import DataError, NumericalError

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]

COLOUR_MAP = colormaps["inferno"]
PICTURE_SHARE = 0.3
"""Weight of the grey picture under the map: enough to see the part, dark where it is normal."""
LEGEND_GREY = 0.4
"""Brightness of the picture that legends stand for."""

SIDE = 288
"""Longest side of a tile, in pixels."""

CONTOUR = (255, 255, 255)
OUTLINE = (86, 180, 233)


@dataclass(frozen=True)
class ColourScale:
    """Surprise at the dark and at the bright end, and where the decision lies between them."""

    low: float
    high: float
    threshold: float | None = None

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


@dataclass(frozen=True, eq=False)
class HeatmapCase:
    """One test image, its surprise map and what was decided."""

    site: str
    defect: str | None
    image: Rgb
    surprise: NDArray[np.floating]
    mask: Mask | None
    score: float
    p_value: float | None = None
    decision: str | None = None

    def __post_init__(self) -> None:
        shape = self.surprise.shape
        if self.image.dtype != np.uint8 or self.image.shape != (*shape, 3):
            raise DataError(f"heatmap of {self.site}: image and surprise map do not fit")
        if self.mask is not None and self.mask.shape != shape:
            raise DataError(f"heatmap of {self.site}: image and mask do not fit")
        if not (np.isfinite(self.surprise).all() and math.isfinite(self.score)):
            raise NumericalError(f"heatmap of {self.site}: not all surprise is finite")


@dataclass(frozen=True)
class Panel:
    """Three JPEG pictures of equal size; ``outline`` is ``None`` without a mask."""

    picture: bytes
    overlay: bytes
    outline: bytes | None


def surprise_colours(position: NDArray[np.float64], grey: NDArray[np.float64] | float) -> Rgb:
    """Return the colours of positions on the scale over a picture of brightness ``grey``.

    (1 - w) C(u) + w g

    Args:
        position: (...) u, in [0, 1].
        grey: (...) or a number, g in [0, 1].

    Returns:
        (..., 3) colours; C is a map whose brightness grows with u, from black.

    >>> surprise_colours(np.array([0.0]), 0.0)[0].max() < 5
    np.True_
    """
    colours = np.asarray(COLOUR_MAP(position))[..., :3]
    under = np.broadcast_to(grey, position.shape)[..., None]
    mixed = (1.0 - PICTURE_SHARE) * colours + PICTURE_SHARE * under
    return np.round(255.0 * mixed).astype(np.uint8)


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
    overlay = surprise_colours(scale.position(enlarged), picture.mean(axis=2) / 255.0)
    if scale.threshold is not None:
        _draw(overlay, _edge(enlarged >= scale.threshold, line), CONTOUR)
    return overlay


def heatmap_panel(case: HeatmapCase, scale: ColourScale, side: int = SIDE) -> Panel:
    """Return picture, surprise over the picture, and mask outline on the picture."""
    picture = fitted(case.image, side)
    overlay = surprise_over(picture, case.surprise, scale)
    outline = None if case.mask is None else jpeg(_outlined(picture, case.mask))
    return Panel(jpeg(picture), jpeg(overlay), outline)


def fitted(image: Rgb, side: int) -> Rgb:
    """Return ``image`` with ``side`` pixels on its longest side."""
    height, width = image.shape[:2]
    ratio = side / max(height, width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def jpeg(image: Rgb) -> bytes:
    """Return ``image`` as a JPEG file that keeps thin coloured lines."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue()


def _edge(region: Mask, width: int) -> Mask:
    inside = ndimage.binary_erosion(region, iterations=width, border_value=1)
    return region & ~inside


def _draw(image: Rgb, where: Mask, colour: tuple[int, int, int]) -> None:
    image[where] = colour


def _outlined(picture: Rgb, mask: Mask) -> Rgb:
    size = picture.shape[1], picture.shape[0]
    region = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    ring = ndimage.binary_dilation(region, iterations=2) & ~region
    halo = ndimage.binary_dilation(ring) & ~ring
    outlined = picture.copy()
    _draw(outlined, halo, (0, 0, 0))
    _draw(outlined, ring, OUTLINE)
    return outlined
