"""What a factory has: one product, its good images and its defects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bayfed.data.proportion import Proportion
from bayfed.errors import DataError

Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB."""
Mask = NDArray[np.bool_]
"""(H, W), True where the part is defective."""


class Source(Protocol):
    """Where the pixels of an image come from: a file, a generator, a painted photograph."""

    def pixels(self) -> Pixels:
        """Return the image, decoded or drawn now."""

    def mask(self) -> Mask | None:
        """Return the mask of the defect; None = not known."""

    def size(self) -> tuple[int, int]:
        """Return (height, width) without decoding the image."""

    def digest(self) -> str:
        """Return the hexadecimal SHA-256 that identifies the content."""


@dataclass(frozen=True)
class SiteImage:
    """One image of a site; nothing is decoded before it is asked for.

    Attributes:
        site: name of the site.
        name: unique inside the site, such as ``test/crack/003.png``.
        defect: type of the defect; None = good.
        source: file or generator behind the image.
        base: name of the image that this one is painted on or turned from, where it is.
            An episode must not hold both.
        proportion: the usual one of its site; None = its own is all that is known.
    """

    site: str
    name: str
    defect: str | None
    source: Source = field(repr=False)
    base: str | None = None
    proportion: Proportion | None = field(default=None, repr=False, compare=False)

    @property
    def ratio(self) -> float:
        """Height over width: the usual one of its site, else its own."""
        if self.proportion is not None:
            return self.proportion.ratio
        height, width = self.size()
        return height / width

    @property
    def place(self) -> str:
        """Where a user finds it: its file, or site and name where there is none."""
        return str(getattr(self.source, "path", f"{self.site}/{self.name}"))

    def pixels(self) -> Pixels:
        """Return the image as (H, W, 3) uint8 RGB.

        Raises:
            DataError: the file cannot be read as an image.
        """
        return self.source.pixels()

    def mask(self) -> Mask | None:
        """Return the (H, W) mask: all False for a good image, None where it is not known.

        Raises:
            DataError: the mask cannot be read, or is not of the image's size.
        """
        if self.defect is None:
            return np.zeros(self.source.size(), dtype=np.bool_)
        return self.source.mask()

    def size(self) -> tuple[int, int]:
        """Return (height, width) without decoding the image."""
        return self.source.size()

    def digest(self) -> str:
        """Return the SHA-256 of the content: of a file's bytes, or of what a drawing depends on."""
        return self.source.digest()


@dataclass(frozen=True)
class Site:
    """One product of one factory.

    The three pools share no image. ``family`` groups sites that make similar
    products: protocols hold out whole families.

    Raises:
        DataError: two images have the same name.
    """

    name: str
    family: str
    train_good: tuple[SiteImage, ...]
    test_good: tuple[SiteImage, ...]
    defects: tuple[SiteImage, ...]

    def __post_init__(self) -> None:
        names = [image.name for image in self.images]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"site {self.name}: two images are called {twice}")

    @property
    def images(self) -> tuple[SiteImage, ...]:
        """All images: train good, test good, defects."""
        return (*self.train_good, *self.test_good, *self.defects)

    @property
    def defect_types(self) -> tuple[str, ...]:
        """The types of defect, sorted."""
        return tuple(sorted({image.defect for image in self.defects if image.defect}))
