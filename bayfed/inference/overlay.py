"""What an inspection saw, drawn over the picture on the product's one colour scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bayfed.evaluation.colours import (
    LEGEND_GREY,
    OUTLINE,
    ColourScale,
    Rgb,
    fitted,
    surprise_colours,
    surprise_over,
)
from bayfed.inference.inspection import Inspection, Region

SMALLEST, LARGEST = 320, 1024
"""Limits of the longest side: a legend can be read, and a 12 megapixel picture drawn at once."""
LEGEND = 52
"""Height of the legend, in pixels."""
NARROWEST = 150
"""Width that the words of a legend need; beside a narrower picture the paper is seen."""

_PAPER, _INK, _SOFT = (252, 252, 250), (27, 28, 30), (93, 96, 102)
_FONT_SIZE = 13
_BAR = slice(22, 34)
"""Rows of the colours in the legend."""


def overlay(image: Rgb, inspection: Inspection, scale: ColourScale, *, legend: bool = True) -> Rgb:
    """Return the surprise of ``inspection`` over its picture, and the legend beneath.

    Dark is normal for this product, bright is above anything its scale knows: the colours
    depend on ``scale`` alone, never on the image's own extremes. A white line surrounds what
    is at or above the threshold, a blue box each region. Where there is no map, the picture
    is left as it is.

    Args:
        image: (H, W, 3) the inspected picture.
        inspection: What the detector said of it.
        scale: The product's scale, in nats per dimension.
        legend: Whether to draw colours, limits and threshold beneath.

    Returns:
        (H', W', 3), of the picture's proportions but for the legend of ``LEGEND`` rows;
        longest side of the picture between ``SMALLEST`` and ``LARGEST``.

    >>> from bayfed.inference.inspection import Decision
    >>> seen = Inspection(0.1, -3.0, 0.4, 0.2, Decision.OK, np.zeros((7, 7), np.float32))
    >>> overlay(np.zeros((400, 600, 3), np.uint8), seen, ColourScale(0.0, 2.0, 1.0)).shape
    (452, 600, 3)
    """
    longest = max(image.shape[:2])
    side = min(max(longest, SMALLEST), LARGEST)
    drawn = image if side == longest else fitted(image, side)
    if inspection.surprise is not None:
        line = max(1, side // SMALLEST)
        drawn = surprise_over(drawn, inspection.surprise, scale, line)
        drawn = _boxed(drawn, inspection.regions, side / longest, line)
    return _on_legend(drawn, scale) if legend else drawn


def _boxed(drawn: Rgb, regions: Sequence[Region], ratio: float, line: int) -> Rgb:
    canvas = Image.fromarray(drawn)
    pen = ImageDraw.Draw(canvas)
    for region in regions:
        left, top = region.x * ratio, region.y * ratio
        # Pillow counts both corners in; at a small ratio they may fall together.
        right = max(left, left + region.width * ratio - 1)
        bottom = max(top, top + region.height * ratio - 1)
        pen.rectangle((left, top, right, bottom), outline=OUTLINE, width=line)
    return np.asarray(canvas)


def _on_legend(drawn: Rgb, scale: ColourScale) -> Rgb:
    height, width, _ = drawn.shape
    canvas = np.full((height + LEGEND, max(width, NARROWEST), 3), _PAPER, np.uint8)
    canvas[:height, :width] = drawn
    canvas[height:] = _legend(canvas.shape[1], scale)
    return canvas


def _legend(width: int, scale: ColourScale) -> Rgb:
    strip = np.full((LEGEND, width, 3), _PAPER, np.uint8)
    strip[_BAR] = surprise_colours(np.linspace(0.0, 1.0, width), LEGEND_GREY, scale.palette)
    canvas = Image.fromarray(strip)
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(_FONT_SIZE)
    bottom = LEGEND - 3
    pen.text((2, bottom), f"{scale.low:.3g}", _SOFT, font, anchor="ls")
    pen.text((width - 2, bottom), f"{scale.high:.3g}", _SOFT, font, anchor="rs")
    if scale.threshold is not None:
        words = f"threshold {scale.threshold:.3g}"
        at = round((width - 1) * float(scale.position(scale.threshold)))
        half = pen.textlength(words, font) / 2 + 2
        pen.text((min(max(at, half), width - half), 2), words, _INK, font, anchor="ma")
        pen.rectangle((at - 1, _BAR.start - 3, at + 1, _BAR.stop + 3), fill=_INK)
    return np.asarray(canvas)
