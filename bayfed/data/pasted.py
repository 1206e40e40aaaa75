"""Synthetic defects painted on good photographs, for sites that have none to train on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from bayfed.config import Pasted
from bayfed.data.site import Mask, Pixels, Site, SiteImage
from bayfed.data.synthetic.canvas import Colours, Part, Rng, whole
from bayfed.data.synthetic.damage import PASTED_KINDS, check_kinds, damaged
from bayfed.errors import DataError
from bayfed.seeds import stream

VERSION = 1
"""Part of every digest; raise it with any change to what is painted."""
SMALLEST = 8
"""Least side of an image that a defect is painted on, in pixels."""


def _as_it_is(picture: Colours) -> Colours:
    return picture


def _in_grey(picture: Colours) -> Colours:
    return np.repeat(picture.mean(axis=0, keepdims=True), 3, axis=0)


def paste_defect(image: Pixels, rng: Rng, kind: str) -> tuple[Pixels, Mask]:
    """Return ``image`` with a painted defect, and the mask of what changed.

    The defect scales with the shorter side of the image; on a grey image it is grey.

    Args:
        image: (H, W, 3) uint8, at least ``SMALLEST`` pixels a side.
        rng: the stream that place, shape and severity are drawn from.
        kind: one of :data:`~bayfed.data.synthetic.PASTED_KINDS`.

    Raises:
        ConfigError: the kind is unknown.
        DataError: the image is too small to hold a defect.

    >>> grey = np.full((64, 64, 3), 128, np.uint8)
    >>> painted, mask = paste_defect(grey, stream(0, "example"), "hole")
    >>> bool(mask.any()), bool((painted[mask] != 128).any())
    (True, True)
    """
    check_kinds((kind,), "data.pasted.kinds", PASTED_KINDS)
    if min(image.shape[:2]) < SMALLEST:
        raise DataError(
            f"an image of {image.shape[1]} x {image.shape[0]} pixels cannot hold a painted defect"
        )
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32) / np.float32(255)
    part = Part(planes, whole(image.shape[:2]))
    is_grey = bool((image == image[..., :1]).all())
    reduce = _in_grey if is_grey else _as_it_is
    picture, mask = damaged(part, rng, PASTED_KINDS[kind], reduce)
    levels = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(levels.transpose(1, 2, 0)), mask


@dataclass(frozen=True)
class PastedSource:
    """A good image with a painted defect, determined by (base, kind, number, seed)."""

    base: SiteImage
    kind: str
    number: int
    seed: int

    def _drawn(self) -> tuple[Pixels, Mask]:
        rng = stream(self.seed, "pasted", self.base.site, self.kind, self.number)
        pixels = self.base.pixels()
        try:
            return paste_defect(pixels, rng, self.kind)
        except DataError as error:
            raise DataError(f"{self.base.place}: {error}") from None

    def pixels(self) -> Pixels:
        """Read the good image and paint on it."""
        return self._drawn()[0]

    def mask(self) -> Mask:
        """Paint, and return where the image changed."""
        return self._drawn()[1]

    def size(self) -> tuple[int, int]:
        """Return (height, width) of the good image."""
        return self.base.size()

    def digest(self) -> str:
        """Return the SHA-256 of the good image's digest and of how it is painted on."""
        text = repr(
            (VERSION, self.base.digest(), self.base.site, self.kind, self.number, self.seed)
        )
        return hashlib.sha256(text.encode()).hexdigest()


def pasted_images(site: Site, settings: Pasted, seed: int) -> tuple[SiteImage, ...]:
    """Return ``settings.per_site`` painted images of ``site``, drawn when asked for.

    Kinds take turns. ``SiteImage.base`` names the good training image behind each:
    an episode must not hold both.

    Raises:
        ConfigError: a kind is unknown.
        DataError: the site has no good image to paint on.
    """
    kinds = check_kinds(settings.kinds, "data.pasted.kinds", PASTED_KINDS)
    if settings.per_site and not site.train_good:
        raise DataError(f"site {site.name}: no good image to paint on")
    made = []
    for number in range(settings.per_site):
        kind = kinds[number % len(kinds)]
        pick = stream(seed, "pasted-base", site.name, number).integers(len(site.train_good))
        base = site.train_good[int(pick)]
        source = PastedSource(base, kind, number, seed)
        name = f"pasted/{kind}/{number:04d}"
        made.append(SiteImage(site.name, name, kind, source, base.name, proportion=base.proportion))
    return tuple(made)
