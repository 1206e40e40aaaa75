"""The table of results: one row a method, site and draw, kept as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from bayfed.errors import CheckpointError, NumericalError
from bayfed.evaluation.atomic import write_atomic

MAX_BYTES = 256 * 2**20
"""A larger file is no results table."""


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One measurement; ``None`` where a column does not apply.

    The columns up to ``round`` are the key. ``arm`` is "none" for the control at round-0
    parameters and "federated" for the trained ones; ``train_sites`` are the names of the
    training sites, sorted and joined by "+"; ``defect`` is empty if all defects of the site
    are in the row; ``draw`` numbers the draws of the support; ``noise`` is the share of
    train/good that defects were to replace. ``model_bytes`` is in bytes, the times in seconds;
    ``fpr_at_fnr10`` is the false-positive rate where 10 % of the defects are missed;
    ``full_support`` is 1 where the support is all of train/good that is not held back;
    ``noise_reached`` is the fraction of the support that is defective, which a site with few
    defects keeps below ``noise``; ``reject_precision`` and ``reject_recall`` are those of a
    refinement that leaves support images out.
    """

    run: str
    method: str
    variant: str | None = None
    grain: str | None = None
    arm: str
    protocol: str
    backbone: str | None = None
    train_sites: str | None = None
    site: str
    defect: str | None = None
    seed: int
    draw: int
    shots: int
    noise: float | None = None
    round: int

    image_auroc: float | None = None
    image_auprc: float | None = None
    f1_max: float | None = None
    pixel_auroc: float | None = None
    aupro: float | None = None
    ece: float | None = None
    ks: float | None = None
    cover90: float | None = None
    cover95: float | None = None
    cover99: float | None = None
    fpr_at_threshold: float | None = None
    fnr_at_threshold: float | None = None
    model_bytes: int | None = None
    fit_seconds: float | None = None
    score_seconds: float | None = None
    fpr_at_fnr10: float | None = None
    full_support: int | None = None
    noise_reached: float | None = None
    reject_precision: float | None = None
    reject_recall: float | None = None


COLUMNS = tuple(field.name for field in fields(ResultRow))
KEY = COLUMNS[: COLUMNS.index("round") + 1]
VALUES = COLUMNS[len(KEY) :]

Cells = tuple[str, ...]

_KINDS: dict[str, type] = {}
_OPTIONAL: set[str] = set()
for _name, _hint in get_type_hints(ResultRow).items():
    _kinds = get_args(_hint) or (_hint,)
    _KINDS[_name] = _kinds[0]
    if NoneType in _kinds:
        _OPTIONAL.add(_name)


def untimed(row: ResultRow) -> ResultRow:
    """Return ``row`` without its times, so that rows of equal runs compare equal."""
    return replace(row, fit_seconds=None, score_seconds=None)


def _to_cell(column: str, value: str | float | None) -> str:
    if value is None:
        return ""
    kind = _KINDS[column]
    if kind is str:
        return str(value).replace("\r", " ")  # csv leaves a lone carriage return unquoted
    if not math.isfinite(float(value)):
        raise NumericalError(f"results: {column} is {value}")
    return repr(kind(value))  # through kind: a NumPy scalar would print its type


def _to_cells(row: ResultRow) -> Cells:
    return tuple(map(_to_cell, COLUMNS, astuple(row)))


def _from_cell(column: str, text: str) -> str | float | None:
    if not text and column in _OPTIONAL:
        return None
    value: str | float = _KINDS[column](text)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(text)
    return value


def _from_cells(cells: Sequence[str], where: str) -> ResultRow:
    values: dict[str, Any] = {}
    for column, text in zip(COLUMNS, cells, strict=False):
        try:
            values[column] = _from_cell(column, text)
        except ValueError:
            raise CheckpointError(f"{where}: {column} is {text[:40]!r}") from None
    return ResultRow(**values)


def _check_header(path: Path, header: Sequence[str]) -> None:
    for number, (found, expected) in enumerate(zip(header, COLUMNS, strict=False), start=1):
        if found != expected:
            raise CheckpointError(f"{path}: column {number} is {found[:40]!r}, not {expected!r}")
    if len(header) < len(KEY):
        raise CheckpointError(f"{path}: column {KEY[len(header)]!r} is missing")


def _load(path: Path) -> tuple[Cells, list[Cells]]:
    """Return the header and the rows of ``path``, its schema checked."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_BYTES} bytes")
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            lines = [tuple(line) for line in csv.reader(file, strict=True)]
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    except csv.Error as error:
        raise CheckpointError(f"{path}: not a CSV file ({error})") from None
    if not lines:
        raise CheckpointError(f"{path}: empty, without a header")
    header, *rows = lines
    _check_header(path, header)
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise CheckpointError(f"{path}: row {number} has {len(row)} of {len(header)} cells")
    return header, rows


def read_rows(path: Path) -> list[ResultRow]:
    """Return the rows of a results table.

    A table of an earlier version lacks some of the last columns: they read as ``None``.
    One of a later version has more of them: they are ignored.

    Raises:
        CheckpointError: the file cannot be read, has another schema, or a cell is no number.
    """
    _, rows = _load(path)
    return [_from_cells(row, f"{path}: row {i}") for i, row in enumerate(rows, start=2)]


def _dump(header: Cells, rows: Iterable[Cells]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", errors="surrogateescape")


def append_rows(path: Path, rows: Iterable[ResultRow]) -> None:
    """Add ``rows`` to the table at ``path``, replacing those with the same key.

    Numbers are written so that they read back exactly. Columns that a later version has
    added are kept. The file is replaced as a whole, so a crash leaves the old one.

    Raises:
        CheckpointError: the file exists and is no results table; it is left as it is.
        NumericalError: a value is not finite; the file is left as it is.
    """
    header, old = _load(path) if path.exists() else (COLUMNS, [])
    header += COLUMNS[len(header) :]
    cells = [*old, *map(_to_cells, rows)]
    padded = (row + ("",) * (len(header) - len(row)) for row in cells)
    table = {row[: len(KEY)]: row for row in padded}
    _replace(path, header, table.values())


def sort_rows(path: Path) -> None:
    """Order the table at ``path`` by its key, so that it does not tell who came first.

    Raises:
        CheckpointError: the file is no results table, or cannot be written.
    """
    header, rows = _load(path)
    _replace(path, header, sorted(rows, key=_order))


def _order(row: Cells) -> tuple[tuple[float, str], ...]:
    """Return the key of a row for sorting: numbers by value, texts by letters."""
    return tuple(
        (0.0, cell) if _KINDS[name] is str else (float(cell or -1), "")
        for name, cell in zip(KEY, row, strict=False)
    )


def _replace(path: Path, header: Cells, rows: Iterable[Cells]) -> None:
    try:
        write_atomic(path, _dump(header, rows))
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
