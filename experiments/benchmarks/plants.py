"""Plants that are unlike others: their cameras, resolutions, numbers of images, and hardware."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bayfed.config import Experiment
from bayfed.data import Mask, Pixels, Site, SiteImage
from bayfed.data.pasted import pasted_images
from bayfed.data.retaken import retaken
from bayfed.data.synthetic import write_sites
from bayfed.evaluation.system import build_system
from bayfed.features import FeatureStore, default_directory
from bayfed.features.trunk import FrozenTrunk
from bayfed.seeds import stream

LEAST = 24
"""Good images that a plant with few of them keeps at least: an episode must be filled."""
Images = tuple[SiteImage, ...]


@dataclass(frozen=True)
class Smaller:
    """An image at a fraction of its resolution, each new pixel the mean of old ones.

    Attributes:
        image: At the full one.
        factor: By which either side shrinks.
    """

    image: SiteImage
    factor: int

    def pixels(self) -> Pixels:
        """Decode the image and shrink it."""
        return np.asarray(Image.fromarray(self.image.pixels()).reduce(self.factor))

    def mask(self) -> Mask | None:
        """Return the mask: a new pixel is defective where half of the old ones were."""
        mask = self.image.source.mask()
        if mask is None:
            return None
        found: Mask = np.asarray(Image.fromarray(np.uint8(255) * mask).reduce(self.factor)) > 127
        return found

    def size(self) -> tuple[int, int]:
        """Return (height, width)."""
        height, width = self.image.size()
        return -(-height // self.factor), -(-width // self.factor)

    def digest(self) -> str:
        """Return what identifies it."""
        return f"{self.image.digest()}/{self.factor}"


def _each(site: Site, change: Callable[[Images], Images]) -> Site:
    return replace(
        site,
        train_good=change(site.train_good),
        test_good=change(site.test_good),
        defects=change(site.defects),
    )


def _retaken(site: Site) -> Site:
    return _each(site, lambda images: retaken(images, 1.0, 0, site.name))


def _smaller(factor: int, site: Site) -> Site:
    def change(images: Images) -> Images:
        return tuple(replace(image, source=Smaller(image, factor)) for image in images)

    return _each(site, change)


def _fewer(site: Site) -> Site:
    order = stream(0, "fewer", site.name).permutation(len(site.train_good))
    kept = sorted(order[: max(LEAST, len(order) // 4)])
    return replace(site, train_good=tuple(site.train_good[i] for i in kept))


CHANGES: dict[str, Callable[[Site], Site]] = {
    "another camera": _retaken,
    "half the resolution": partial(_smaller, 2),
    "a quarter of the resolution": partial(_smaller, 4),
    "a quarter of the images": _fewer,
}
"""What becomes of a plant; each has a camera of its own."""


def write(
    sites: Iterable[Site], folder: Path, change: Callable[[Site], Site], unlike: Collection[str]
) -> None:
    """Write the sites into ``folder``, those in ``unlike`` changed; nothing if it is there.

    All become PNG, also where nothing changes: what is drawn for an image depends on its name.
    """
    if folder.exists():
        return
    scratch = folder.with_suffix(f".{os.getpid()}")
    named = (_each(site, _as_png) for site in sites)
    write_sites([change(site) if site.name in unlike else site for site in named], scratch)
    try:
        scratch.rename(folder)
    except OSError:  # another process has written the same
        shutil.rmtree(scratch)


def _as_png(images: Images) -> Images:
    return tuple(replace(i, name=str(PurePosixPath(i.name).with_suffix(".png"))) for i in images)


@dataclass(frozen=True)
class Elsewhere:
    """A trunk as other hardware computes it, under the fingerprint of the one it stands for.

    Attributes:
        trunk: What it stands for.
    """

    trunk: FrozenTrunk

    @property
    def fingerprint(self) -> str:
        """That of the other."""
        return self.trunk.fingerprint

    @property
    def batch(self) -> int:
        """Pictures in one pass."""
        return self.trunk.batch

    def __call__(self, images: Tensor) -> Tensor:
        """Map ``(n, 3, s, s)`` uint8 to ``(n, ...)``, with convolutions in bfloat16."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return replace(self.trunk, folded=False)(images).float()


def compute_elsewhere(experiment: Experiment, sites: Sequence[Site]) -> list[float]:
    """Fill the experiment's store with features of ``sites`` as other hardware computes them.

    Returns:
        Of each site, how far they are from those of this machine: the root of the mean squared
        difference over that of the features' spread around their mean.
    """
    encoder, settings = build_system(experiment).encoder, experiment.store
    trunk = encoder.trunk
    if not isinstance(trunk, FrozenTrunk):
        raise TypeError("a frozen backbone is expected")
    size, aspect = encoder.image_size, experiment.backbone.aspect
    here = FeatureStore(default_directory(), trunk, size, settings.dtype, aspect)
    there = FeatureStore(
        settings.directory or default_directory(), Elsewhere(trunk), size, settings.dtype, aspect
    )
    apart = []
    for site in sites:
        pictures = (*site.images, *pasted_images(site, experiment.data.pasted, experiment.seed))
        names = [picture.name for picture in site.test_good]
        own, other = (store.open(pictures).read(names).float() for store in (here, there))
        spread = (own - own.mean(dim=(0, 1))).square().mean()
        apart.append(float(((own - other).square().mean() / spread).sqrt()))
    return apart
