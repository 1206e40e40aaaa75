"""Images turned in their own frame, for supports that are to look alike from every side."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bayfed.data.site import Mask, Pixels, SiteImage

VERSION = 1
"""Part of every digest; raise it with any change to how an image is turned."""


@dataclass(frozen=True)
class TurnedSource:
    """An image turned about its centre, its frame kept and filled by reflection.

    Attributes:
        image: What is turned.
        degrees: Counter-clockwise.
    """

    image: SiteImage
    degrees: float

    def pixels(self) -> Pixels:
        """Decode the image and turn it."""
        return _turn(self.image.pixels(), self.degrees, 1)

    def mask(self) -> Mask | None:
        """Turn the mask, where it is known."""
        mask = self.image.mask()
        return None if mask is None else _turn(mask.astype(np.uint8), self.degrees, 0) > 0

    def size(self) -> tuple[int, int]:
        """Return (height, width), those of the image."""
        return self.image.size()

    def digest(self) -> str:
        """Return the SHA-256 of the image's digest and of the angle."""
        text = repr((VERSION, self.image.digest(), float(self.degrees)))
        return hashlib.sha256(text.encode()).hexdigest()


def _turn(values: NDArray[np.uint8], degrees: float, order: Literal[0, 1]) -> NDArray[np.uint8]:
    """Turn by the nearest pixel (order 0) or bilinearly (1), reflecting at the border."""
    from scipy import ndimage  # late: only who turns pays for it

    return ndimage.rotate(values, degrees, reshape=False, order=order, mode="reflect")


def turned(image: SiteImage, turns: int) -> tuple[SiteImage, ...]:
    """Return ``turns`` rotations of ``image``, evenly spaced over the circle, itself the first.

    They are turned when asked for. ``SiteImage.base`` names the image behind each.

    >>> from bayfed.data.files import FileSource
    >>> from pathlib import Path
    >>> part = SiteImage("part", "train/good/0.png", None, FileSource(Path("0.png")))
    >>> [one.name for one in turned(part, 3)]
    ['train/good/0.png', 'train/good/0.png@120', 'train/good/0.png@240']
    """
    angles = [360 * number / turns for number in range(1, turns)]
    copies = (
        SiteImage(
            image.site,
            f"{image.name}@{degrees:g}",
            image.defect,
            TurnedSource(image, degrees),
            image.base or image.name,
        )
        for degrees in angles
    )
    return (image, *copies)
