"""Scoring folders of any size: memory does not grow, and a bad image is a row of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from bayfed.data import Pixels
from bayfed.data.files import read_pixels
from bayfed.errors import BayfedError, NumericalError, one_line
from bayfed.product.detector import Detector
from bayfed.product.inspection import Inspection

BATCH = 4
"""Images in memory at once, and as many that are decoded meanwhile."""


@dataclass(frozen=True, eq=False)
class Row:
    """What became of one file.

    Attributes:
        path: The file.
        inspection: What the detector says; None where the file could not be scored.
        milliseconds: To score it, without reading the file.
        error: Why it could not be scored; None where it could.
        pixels: The image.
    """

    path: Path
    inspection: Inspection | None = None
    milliseconds: float | None = None
    error: str | None = None
    pixels: Pixels | None = field(default=None, repr=False)


def stream(detector: Detector, paths: Iterable[Path]) -> Iterator[Row]:
    """Yield a row for each file, in the order of ``paths``.

    Files are decoded in a thread, one batch ahead of the detector.

    Raises:
        ProductError: no threshold is set.
    """
    detector.warm()
    waiting = iter(paths)
    with ThreadPoolExecutor(1) as reader:

        def read_on() -> Future[list[Row]]:
            return reader.submit(_opened, detector, list(islice(waiting, BATCH)))

        ahead = read_on()
        while rows := ahead.result():
            ahead = read_on()
            yield from _scored(detector, rows)


def _opened(detector: Detector, paths: Sequence[Path]) -> list[Row]:
    return [_open(detector, path) for path in paths]


def _open(detector: Detector, path: Path) -> Row:
    try:
        pixels = read_pixels(path)
        detector.product.frame.cut(pixels, str(path))
    except BayfedError as error:
        return Row(path, error=one_line(error))
    return Row(path, pixels=pixels)


def _scored(detector: Detector, rows: Sequence[Row]) -> list[Row]:
    pictures = [row.pixels for row in rows if row.pixels is not None]
    if not pictures:
        return list(rows)
    started = time.perf_counter()
    places = [str(row.path) for row in rows if row.pixels is not None]
    try:
        found = iter(detector.inspect(pictures, places))
    except NumericalError as error:
        if len(rows) == 1:
            return [Row(rows[0].path, error=one_line(error))]
        return [done for row in rows for done in _scored(detector, [row])]
    each = 1000 * (time.perf_counter() - started) / len(pictures)
    return [
        row if row.pixels is None else Row(row.path, next(found), each, None, row.pixels)
        for row in rows
    ]
