"""Scoring folders of any size: memory does not grow, and a bad image is a row of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

from bayfed.data import Pixels
from bayfed.data.files import read_pixels
from bayfed.errors import BayfedError, NumericalError, one_line
from bayfed.evaluation.colours import ColourScale
from bayfed.inference.frame import Frame
from bayfed.inference.inspection import Inspection

BATCH = 4
"""Images in memory at once, and as many that are decoded meanwhile."""


class Inspector(Protocol):
    """What scores pictures: a fitted detector, or what was exported of it."""

    @property
    def scale(self) -> ColourScale:
        """The one colour scale of all its maps."""

    @property
    def frame(self) -> Frame:
        """The part of a picture that is inspected."""

    def inspect(self, pixels: Sequence[Pixels], places: Sequence[str]) -> list[Inspection]:
        """Return what is said of pictures; ``places`` is what messages call them."""


@dataclass(frozen=True, eq=False)
class Row:
    """What became of one file.

    Attributes:
        path: The file.
        inspection: What is said of it; None where the file could not be scored.
        milliseconds: To score it, without reading the file.
        error: Why it could not be scored; None where it could.
        pixels: The image.
    """

    path: Path
    inspection: Inspection | None = None
    milliseconds: float | None = None
    error: str | None = None
    pixels: Pixels | None = field(default=None, repr=False)


def stream(inspector: Inspector, paths: Iterable[Path]) -> Iterator[Row]:
    """Yield a row for each file, in the order of ``paths``.

    Files are decoded in a thread, one batch ahead of the scoring.

    Raises:
        ProductError: no threshold is set.
    """
    waiting = iter(paths)
    with ThreadPoolExecutor(1) as reader:

        def read_on() -> Future[list[Row]]:
            return reader.submit(_opened, inspector, list(islice(waiting, BATCH)))

        ahead = read_on()
        while rows := ahead.result():
            ahead = read_on()
            yield from _scored(inspector, rows)


def _opened(inspector: Inspector, paths: Sequence[Path]) -> list[Row]:
    return [_open(inspector, path) for path in paths]


def _open(inspector: Inspector, path: Path) -> Row:
    try:
        pixels = read_pixels(path)
        inspector.frame.check(pixels.shape, str(path))
    except BayfedError as error:
        return Row(path, error=one_line(error))
    return Row(path, pixels=pixels)


def _scored(inspector: Inspector, rows: Sequence[Row]) -> list[Row]:
    pictures = [row.pixels for row in rows if row.pixels is not None]
    if not pictures:
        return list(rows)
    started = time.perf_counter()
    places = [str(row.path) for row in rows if row.pixels is not None]
    try:
        found = iter(inspector.inspect(pictures, places))
    except NumericalError as error:
        if len(rows) == 1:
            return [Row(rows[0].path, error=one_line(error))]
        return [done for row in rows for done in _scored(inspector, [row])]
    each = 1000 * (time.perf_counter() - started) / len(pictures)
    return [
        row if row.pixels is None else Row(row.path, next(found), each, None, row.pixels)
        for row in rows
    ]
