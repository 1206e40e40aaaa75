"""The layout of VisA: one table of all images.

``split_csv/1cls.csv`` has the columns ``object, split, label, image, mask``;
image and mask are paths relative to the root. Source: Zou et al.,
"SPot-the-Difference", ECCV 2022.
"""

from __future__ import annotations

import csv
from pathlib import Path

from bayfed.data.files import MAX_BYTES, FileSource
from bayfed.data.layouts.walk import inside
from bayfed.data.site import Site, SiteImage
from bayfed.errors import DataError

COLUMNS = ("object", "split", "label", "image", "mask")

Row = dict[str, str]


def _table(root: Path) -> Path:
    return root / "split_csv" / "1cls.csv"


def _rows(root: Path) -> list[tuple[int, Row]]:
    """Return (line number, row) of the table, each column a stripped text."""
    path = inside(_table(root), root)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: larger than {MAX_BYTES >> 20} MB")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: no column {missing[0]!r}")
            return [
                (reader.line_num, {name: (row[name] or "").strip() for name in COLUMNS})
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable CSV table ({error})") from error


def names(root: Path) -> tuple[str, ...]:
    """Return the names of the sites under ``root``; none = another layout."""
    if not _table(root).is_file():
        return ()
    return tuple(sorted({row["object"] for _, row in _rows(root) if row["object"]}))


def _file(root: Path, text: str, where: str) -> Path:
    path = root / text
    if not text or not inside(path, root).is_file():
        raise DataError(f"{where}: no file {text or '(empty)'}")
    return path


def _image(root: Path, row: Row, where: str) -> SiteImage:
    path = _file(root, row["image"], where)
    mask = _file(root, row["mask"], where) if row["mask"] else None
    name = Path(row["image"]).as_posix().removeprefix(f"{row['object']}/")
    defect = None if row["label"] == "normal" else "anomaly"
    return SiteImage(row["object"], name, defect, FileSource(path, mask if defect else None))


def read(root: Path, name: str, seed: int) -> Site:  # noqa: ARG001 (the table has its own split)
    """Return the site ``name``; every defect is of the type ``anomaly``.

    Raises:
        DataError: a column is missing, a split or label is unknown, a path does
            not exist or leads out of the root.
    """
    pools: dict[tuple[str, str], list[SiteImage]] = {
        ("train", "normal"): [],
        ("test", "normal"): [],
        ("test", "anomaly"): [],
    }
    for line, row in _rows(root):
        if row["object"] != name:
            continue
        where = f"{_table(root)}, line {line}"
        pool = pools.get((row["split"], row["label"]))
        if pool is None:
            raise DataError(f"{where}: no place for a {row['split']!r} image {row['label']!r}")
        pool.append(_image(root, row, where))
    train, good, defects = (tuple(pool) for pool in pools.values())
    return Site(name, name, train, good, defects)
