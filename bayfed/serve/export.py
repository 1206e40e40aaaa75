"""The history as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from bayfed.serve.records import COLUMNS, Record

_HEADINGS = (*(name for name in COLUMNS if name != "regions"), "leaning", "regions")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_lines(records: Iterable[Record]) -> Iterator[str]:
    """Yield the heading and a line for each record.

    Text that a spreadsheet would run as a formula is quoted with an apostrophe.

    >>> next(iter(csv_lines([])))[:16]
    'id,received,name'
    """
    yield _line(_HEADINGS)
    for record in records:
        yield _line([_cell(record, name) for name in _HEADINGS])


def _cell(record: Record, name: str) -> object:
    value = getattr(record, name)
    if name == "regions":
        return " ".join(f"{r.x},{r.y},{r.width},{r.height}" for r in record.regions)
    if name in ("name", "note", "error") and value and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _line(cells: Iterable[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue()
