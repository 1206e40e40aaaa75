"""Synthetic sites written to disk in the layout of MVTec AD."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from bayfed.data.site import Site, SiteImage
from bayfed.errors import DataError


def _save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _write(folder: Path, image: SiteImage) -> None:
    path = folder / image.name
    _save(path, Image.fromarray(image.pixels()))
    mask = image.mask() if image.defect else None
    if mask is not None and image.defect:
        below = folder / "ground_truth" / image.defect / f"{path.stem}_mask.png"
        _save(below, Image.fromarray(mask.astype(np.uint8) * 255))


def write_sites(sites: Iterable[Site], directory: Path) -> int:
    """Write the images and masks as PNG files; return the number of images.

    The images must be named as in that layout (``test/crack/003.png``), as those
    of the synthetic factories are.

    Raises:
        DataError: a site is already there, or a file cannot be written.
    """
    count, sites = 0, list(sites)
    for site in sites:  # all of them, before anything is written
        if (directory / site.name).exists():
            raise DataError(f"{directory / site.name}: already exists")
    for site in sites:
        folder = directory / site.name
        try:
            for image in site.images:
                _write(folder, image)
                count += 1
        except OSError as error:
            raise DataError(f"{folder}: {error.strerror or error}") from error
    return count
