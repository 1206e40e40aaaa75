"""What scoring a folder writes: a line an image, and pictures on the product's one scale."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from PIL import Image

from bayfed.errors import ProductError
from bayfed.evaluation.colours import ColourScale, Rgb
from bayfed.folders import make_folder
from bayfed.inference.overlay import overlay
from bayfed.inference.streaming import Row

JSON_LINES, TABLE = "scores.jsonl", "scores.csv"
OVERLAYS, HEATMAPS = "overlays", "heatmaps"
COLUMNS = (
    "path", "score", "log_odds", "p_value", "epistemic", "decision", "ms", "regions", "error"
)  # fmt: skip
ERROR = "error"
"""What an image that could not be scored is counted as."""


def fields_of(row: Row) -> dict[str, Any]:
    """Return the columns of a row; regions with their box and area."""
    found: dict[str, Any] = dict.fromkeys(COLUMNS)
    found |= {"path": str(row.path), "ms": row.milliseconds, "error": row.error}
    if row.inspection is not None:
        seen = row.inspection
        found |= {
            "score": seen.score,
            "log_odds": seen.log_odds,
            "p_value": seen.p_value,
            "epistemic": seen.epistemic,
            "decision": seen.decision.value,
            "regions": [region._asdict() for region in seen.regions],
        }
    return found


class Results:
    """The files of one scored folder, written row by row, so that a stopped run keeps its rows.

    Args:
        folder: Where they go.
        scale: Of the product.
        pictures: Whether heatmaps and overlays are drawn.
        overwrite: Whether the results of an earlier run in the folder are removed first.

    Raises:
        ProductError: there are earlier results, or a file cannot be written (a full disk).
    """

    def __init__(
        self, folder: Path, scale: ColourScale, pictures: bool, overwrite: bool = False
    ) -> None:
        clear(folder, overwrite)
        self._folder, self._scale, self._pictures = folder, scale, pictures
        self._number = 0
        self.counts: Counter[str] = Counter()
        for part in (".", *((OVERLAYS, HEATMAPS) if pictures else ())):
            make_folder(folder / part)
        self._lines = self._open(JSON_LINES)
        self._table = self._open(TABLE)
        self._put(self._table, _csv_line(COLUMNS))

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in (self._lines, self._table):
            with suppress(OSError):  # rows are flushed one by one; what the disk refused is said
                file.close()

    def add(self, row: Row) -> None:
        """Write one row and its pictures."""
        fields = fields_of(row)
        self._put(self._lines, json.dumps(fields) + "\n")
        regions = None if fields["regions"] is None else len(fields["regions"])
        self._put(self._table, _csv_line(list((fields | {"regions": regions}).values())))
        self._draw(row)
        self._number += 1
        self.counts[fields["decision"] or ERROR] += 1

    def _draw(self, row: Row) -> None:
        if not self._pictures or row.inspection is None or row.pixels is None:
            return
        name = f"{self._number:06d}-{row.path.stem}.png"
        save_picture(
            self._folder / OVERLAYS / name, overlay(row.pixels, row.inspection, self._scale)
        )
        if row.inspection.surprise is not None:
            nothing = np.zeros_like(row.pixels)
            save_picture(
                self._folder / HEATMAPS / name, overlay(nothing, row.inspection, self._scale)
            )

    def _open(self, name: str) -> IO[str]:
        try:  # a name whose bytes are no text is written with escapes
            return (self._folder / name).open(
                "w", encoding="utf-8", errors="backslashreplace", newline=""
            )
        except OSError as error:
            raise ProductError(f"{self._folder / name}: {error.strerror}") from error

    def _put(self, file: IO[str], text: str) -> None:
        try:
            file.write(text)
            file.flush()
        except OSError as error:
            raise ProductError(f"{file.name}: {error.strerror}") from error


def clear(folder: Path, overwrite: bool) -> None:
    """Remove the results of an earlier run, and nothing else, if that is wanted.

    Raises:
        ProductError: there are some and it is not, or they cannot be removed.
    """
    earlier = [path for name in (JSON_LINES, TABLE) if (path := folder / name).exists()]
    if earlier and not overwrite:
        raise ProductError(
            f"{folder}: holds the results of an earlier run; --overwrite removes them, --out names "
            "another folder"
        )
    for part in (OVERLAYS, HEATMAPS):
        earlier += (folder / part).glob("[0-9]" * 6 + "*-*.png")
    try:
        for path in earlier:
            path.unlink()
    except OSError as error:
        raise ProductError(f"{error.filename}: {error.strerror}") from error


def save_picture(path: Path, picture: Rgb) -> None:
    """Write a picture.

    Raises:
        ProductError: it cannot be written, such as on a full disk.
    """
    try:
        Image.fromarray(picture).save(path, compress_level=3)
    except OSError as error:
        raise ProductError(f"{path}: {error.strerror or error}") from error


def _csv_line(values: Any) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(values)
    return buffer.getvalue()
