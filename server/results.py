"""Rows of results as they come from clients, and as they stand in the run's table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from flwr.app import Message

from bayfed.errors import BayfedError, FederationError
from bayfed.evaluation.summary import draws_by_site
from bayfed.evaluation.table import KEY, VALUES, ResultRow, append_rows, read_rows
from server.exchange import Replies
from strategies.wire import INFO

MAX_TEXT = 16 * 2**20
"""Longest accepted set of rows, in characters of JSON."""
_OWN = frozenset({"run", "arm", "round"})
_COLUMNS = frozenset(KEY + VALUES) - _OWN
_TEXT = frozenset(
    {"method", "variant", "grain", "protocol", "backbone", "train_sites", "site", "defect"}
)


def refusal(reply: Message) -> str | None:
    """Return why the rows in ``reply`` must not enter the table, or ``None``."""
    try:
        for row in _rows(reply):
            ResultRow(run="", arm="", round=0, **row)
    except (BayfedError, TypeError) as error:
        return f"rows of results: {error}"
    return None


def collect(replies: Replies, run: str, arm: str, number: int) -> list[ResultRow]:
    """Return the rows of all replies, those of the first client first."""
    return [
        ResultRow(run=run, arm=arm, round=number, **row)
        for reply in replies.good.values()
        for row in _rows(reply)
    ]


def append(path: Path, rows: Sequence[ResultRow]) -> None:
    """Add ``rows`` to the table at ``path``."""
    append_rows(path, rows)


def cut(path: Path, number: int) -> None:
    """Drop the rows of rounds that the checkpoint does not know of."""
    if path.exists():
        kept = [row for row in read_rows(path) if row.round <= number]
        partial = path.with_name(f".{path.name}.partial")
        partial.unlink(missing_ok=True)
        append_rows(partial, kept)
        partial.replace(path)


def mean_auroc(rows: Sequence[ResultRow]) -> float | None:
    """Return the mean over sites of the mean image AUROC over draws."""
    sites = [fmean(draws) for draws in draws_by_site(rows).values()]
    return fmean(sites) if sites else None


def _rows(reply: Message) -> list[dict[str, Any]]:
    info = reply.content.config_records.get(INFO)
    text = None if info is None else info.get("rows")
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise FederationError("none are given")
    try:
        rows = json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise FederationError(f"not JSON ({error})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FederationError("a list of rows is expected")
    for row in rows:
        _check_cells(row)
    return rows


def _check_cells(row: dict[str, Any]) -> None:
    for column, value in row.items():
        if column not in _COLUMNS:
            raise FederationError(f"column {str(column)[:40]!r} is not expected")
        expected: tuple[type, ...] = (str,) if column in _TEXT else (int, float)
        if value is not None and (not isinstance(value, expected) or isinstance(value, bool)):
            raise FederationError(f"{column} is {str(value)[:40]!r}")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")
