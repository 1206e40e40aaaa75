"""The layout of MVTec AD: one folder a site, masks beside the test images.

::

    SITE/train/good/*.png    SITE/test/good/*.png
    SITE/test/<defect>/<id>.png    SITE/ground_truth/<defect>/<id>_mask.png

Source: Bergmann et al., "MVTec AD", CVPR 2019. Masks are optional; PNG, JPEG,
BMP and TIFF are read. ``root`` is one site or holds several.
"""

from __future__ import annotations

from pathlib import Path

from bayfed.data.files import FileSource
from bayfed.data.layouts.walk import by_stem, folders, images, own_name
from bayfed.data.site import Site, SiteImage


def _is_site(folder: Path) -> bool:
    return (folder / "train" / "good").is_dir()


def names(root: Path) -> tuple[str, ...]:
    """Return the names of the sites under ``root``; none = another layout."""
    if _is_site(root):
        return (own_name(root),)
    return tuple(folder.name for folder in folders(root, root) if _is_site(folder))


def _good(site: str, folder: Path, split: str, root: Path) -> tuple[SiteImage, ...]:
    return tuple(
        SiteImage(site, f"{split}/good/{path.name}", None, FileSource(path))
        for path in images(folder / split / "good", root)
    )


def _defects(site: str, folder: Path, kind: str, root: Path) -> list[SiteImage]:
    masks = by_stem(folder / "ground_truth" / kind, root)
    return [
        SiteImage(
            site,
            f"test/{kind}/{path.name}",
            kind,
            FileSource(path, masks.get(f"{path.stem}_mask", masks.get(path.stem))),
        )
        for path in images(folder / "test" / kind, root)
    ]


def read(root: Path, name: str, seed: int) -> Site:  # noqa: ARG001 (the layout has its own split)
    """Return the site ``name`` under ``root``."""
    folder = root if _is_site(root) else root / name
    kinds = [entry.name for entry in folders(folder / "test", root) if entry.name != "good"]
    return Site(
        name=name,
        family=name,
        train_good=_good(name, folder, "train", root),
        test_good=_good(name, folder, "test", root),
        defects=tuple(image for kind in kinds for image in _defects(name, folder, kind, root)),
    )
