"""Surprise maps over pictures, on one colour scale for all images of a report."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from bayfed.errors import DataError, NumericalError
from bayfed.evaluation.colours import OUTLINE, ColourScale, Mask, Rgb, fitted, paint, surprise_over

SIDE = 288
"""Longest side of a tile, in pixels."""


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


def heatmap_panel(case: HeatmapCase, scale: ColourScale, side: int = SIDE) -> Panel:
    """Return picture, surprise over the picture, and mask outline on the picture."""
    picture = fitted(case.image, side)
    overlay = surprise_over(picture, case.surprise, scale)
    outline = None if case.mask is None else jpeg(_outlined(picture, case.mask))
    return Panel(jpeg(picture), jpeg(overlay), outline)


def jpeg(image: Rgb) -> bytes:
    """Return ``image`` as a JPEG file that keeps thin coloured lines."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue()


def _outlined(picture: Rgb, mask: Mask) -> Rgb:
    size = picture.shape[1], picture.shape[0]
    region = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    ring = ndimage.binary_dilation(region, iterations=2) & ~region
    halo = ndimage.binary_dilation(ring) & ~ring
    outlined = picture.copy()
    paint(outlined, halo, (0, 0, 0))
    paint(outlined, ring, OUTLINE)
    return outlined
