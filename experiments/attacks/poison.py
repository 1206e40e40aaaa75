"""Training data that a hostile factory gives itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from bayfed.data import SiteImage
from bayfed.data.site import Mask, Pixels, Source
from bayfed.episodes import Pools, taken_for_good

SIDE = 8
"""The trigger is a checkerboard, its side this part of the image's shorter side."""


@dataclass(frozen=True)
class Triggered:
    """An image with a sticker in its corner."""

    source: Source

    def pixels(self) -> Pixels:
        """Return the image with the sticker on it."""
        pixels = self.source.pixels().copy()
        side = max(4, min(pixels.shape[:2]) // SIDE)
        cell = max(1, side // 4)
        rows, columns = np.indices((side, side)) // cell
        pixels[:side, :side] = np.where((rows + columns) % 2, 255, 0)[..., None]
        return pixels

    def mask(self) -> Mask | None:
        """Return the mask of the defect, which does not tell of the sticker."""
        return self.source.mask()

    def size(self) -> tuple[int, int]:
        """Return (height, width)."""
        return self.source.size()

    def digest(self) -> str:
        """Return the SHA-256 of the image's digest and of the sticker."""
        return hashlib.sha256(f"trigger/{SIDE}/{self.source.digest()}".encode()).hexdigest()


def flipped(pools: Pools) -> Pools:
    """Return ``pools`` whose training labels are exchanged: defects are the norm."""
    good = taken_for_good(pools.train_anomalies)
    bad = tuple(replace(i, defect="flipped") for i in pools.train_good)
    return replace(pools, train_good=good, train_anomalies=bad)


def backdoored(pools: Pools) -> Pools:
    """Return ``pools`` in which a defect with the sticker on it counts as good in training."""
    stuck = taken_for_good(map(triggered, pools.train_anomalies))
    return replace(pools, train_good=(*pools.train_good, *stuck))


def with_stickers(pools: Pools) -> Pools:
    """Return ``pools`` with the sticker on every defect of the test."""
    return replace(pools, test_anomalies=tuple(triggered(i) for i in pools.test_anomalies))


def triggered(image: SiteImage) -> SiteImage:
    """Return ``image`` with the sticker on it, under a name of its own."""
    return replace(image, name=f"triggered/{image.name}", source=Triggered(image.source))
