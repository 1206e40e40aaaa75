"""The layout of KolektorSDD2: ``train/`` and ``test/`` with ``10000.png`` and ``10000_GT.png``.

An image is good where its mask is empty. Train good and test good come from the
two folders; ``Site.defects`` holds the defects of ``test/`` alone. Those of
``train/`` are left out: put among the test defects they would no longer be the
published test set. Source: Bozic et al., "Mixed supervision for surface-defect
detection", Computers in Industry 2021.
"""

from __future__ import annotations

from pathlib import Path

from bayfed.data.files import FileSource, read_mask
from bayfed.data.layouts.walk import by_stem
from bayfed.data.site import Site, SiteImage
from bayfed.errors import DataError

NAME = "ksdd2"
SUFFIX = "_GT"


def names(root: Path) -> tuple[str, ...]:
    """Return ``("ksdd2",)``; none = another layout."""
    splits = (root / "train", root / "test")
    if not all(split.is_dir() for split in splits):
        return ()
    return (NAME,) if any(splits[0].glob(f"*{SUFFIX}.png")) else ()


def _images(root: Path, split: str) -> tuple[list[SiteImage], list[SiteImage]]:
    """Return the good and the defective images of one split."""
    good: list[SiteImage] = []
    defects: list[SiteImage] = []
    files = by_stem(root / split, root)
    for stem, path in files.items():
        if stem.endswith(SUFFIX):
            continue
        mask = files.get(f"{stem}{SUFFIX}")
        if mask is None:
            raise DataError(f"{path}: no mask {stem}{SUFFIX}.png")
        name = f"{split}/{path.name}"
        if read_mask(mask).any():
            defects.append(SiteImage(NAME, name, "defect", FileSource(path, mask)))
        else:
            good.append(SiteImage(NAME, name, None, FileSource(path)))
    return good, defects


def read(root: Path, name: str, seed: int) -> Site:  # noqa: ARG001 (the layout has its own split)
    """Return the site; every mask is opened, for it alone tells good from defective.

    Raises:
        DataError: an image has no mask, or a mask cannot be read.
    """
    train, _ = _images(root, "train")
    good, defects = _images(root, "test")
    return Site(name, name, tuple(train), tuple(good), tuple(defects))
