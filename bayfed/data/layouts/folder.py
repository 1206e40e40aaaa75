"""A plain folder of good images, and nothing else if there is nothing else.

::

    SITE/*.png (or SITE/good/*.png)      good images
    SITE/defect/*.png                    optional, of the type "defect"
    SITE/defect/<type>/*.png             optional, of the type of the folder
    SITE/mask/[<type>/]<same name>.png   optional

The good images are ranked by a seeded hash of their name; the first 60 % are
for training, the others for testing.
"""

from __future__ import annotations

from pathlib import Path

from bayfed.data.files import FileSource
from bayfed.data.layouts.walk import by_stem, folders, images, own_name
from bayfed.data.site import Site, SiteImage
from bayfed.seeds import stream

TRAIN_FRACTION = 0.6
RESERVED = ("good", "defect", "mask")


def _good(folder: Path, root: Path) -> list[Path]:
    return images(folder, root) or images(folder / "good", root)


def names(root: Path) -> tuple[str, ...]:
    """Return the names of the sites under ``root``; none = another layout."""
    if _good(root, root):
        return (own_name(root),)
    return tuple(
        folder.name
        for folder in folders(root, root)
        if folder.name not in RESERVED and _good(folder, root)
    )


def _split(paths: list[Path], seed: int) -> tuple[list[Path], list[Path]]:
    def rank(path: Path) -> tuple[float, str]:
        return (float(stream(seed, "folder-split", path.name).random()), path.name)

    ranked = sorted(paths, key=rank)
    count = max(1, round(TRAIN_FRACTION * len(ranked)))
    return sorted(ranked[:count]), sorted(ranked[count:])


def _defects(site: str, folder: Path, kind: str | None, root: Path) -> list[SiteImage]:
    below = kind or "."
    masks = by_stem(folder / "mask" / below, root)
    return [
        SiteImage(
            site,
            path.relative_to(folder).as_posix(),
            kind or "defect",
            FileSource(path, masks.get(path.stem, masks.get(f"{path.stem}_mask"))),
        )
        for path in images(folder / "defect" / below, root)
    ]


def read(root: Path, name: str, seed: int) -> Site:
    """Return the site ``name`` under ``root``, its good images split by ``seed``."""
    folder = root if _good(root, root) else root / name
    train, test = _split(_good(folder, root), seed)
    kinds = [None, *(entry.name for entry in folders(folder / "defect", root))]

    def good(paths: list[Path]) -> tuple[SiteImage, ...]:
        return tuple(
            SiteImage(name, path.relative_to(folder).as_posix(), None, FileSource(path))
            for path in paths
        )

    return Site(
        name=name,
        family=name,
        train_good=good(train),
        test_good=good(test),
        defects=tuple(image for kind in kinds for image in _defects(name, folder, kind, root)),
    )
