"""Rows of results as they come from clients, and as they stand in the run's table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from statistics import fmean
from typing import Any

from flwr.app import Message

from bayfed.errors import BayfedError, FederationError
from bayfed.evaluation.summary import draws_by_site
from bayfed.evaluation.table import KEY, VALUES, ResultRow, append_rows, read_rows
from server.exchange import Replies
from strategies.wire import INFO, config_of, metrics_of

SITES = "sites"
"""What the history calls the sites by who has named them first."""
MAX_TEXT, MAX_ROWS, MAX_TABLE = 16 * 2**20, 10_000, 64 * 2**20
"""Longest accepted set of rows, in characters of JSON; most rows of it; characters of all sets of a
client: a table above 256 MiB is read by nobody."""
MAX_CELL, MAX_SITE = 100_000, 200
"""Longest text of a cell, and of a site's name."""
MAX_NUMBER = 2**63
_OWN = frozenset({"run", "arm", "round"})
_COLUMNS = frozenset(KEY + VALUES) - _OWN
_WHOLE = frozenset({"seed", "draw", "shots", "model_bytes", "full_support"})
_SHARES = frozenset({"noise", *VALUES}) - {"model_bytes", "fit_seconds", "score_seconds"}
_OPTIONAL = frozenset(f.name for f in fields(ResultRow) if f.default is None)
_TEXT = frozenset(
    {"method", "variant", "grain", "protocol", "backbone", "train_sites", "site", "defect"}
)


class Rows:
    """What clients say of their sites, in a table that no client can fill or take from another.

    A site is called as its client calls it; where another one has named it before, with the
    client's own name behind it.

    Args:
        owners: Site -> number of the client that has named it first, written by :attr:`owners`.
        limit: Characters of rows of one client over the whole run.
    """

    def __init__(self, owners: Mapping[str, int] | None = None, limit: int = MAX_TABLE) -> None:
        self.owners = dict(owners or {})
        self._limit = limit
        self._sent: Counter[int] = Counter()

    def refusal(self, reply: Message) -> str | None:
        """Return why the rows in ``reply`` must not enter the table, or ``None``."""
        try:
            _rows(reply)
        except (BayfedError, TypeError) as error:
            return f"rows of results: {error}"
        number = int(metrics_of(reply)["partition"])
        length = len(str(config_of(reply, INFO)["rows"]))
        if self._sent[number] + length > self._limit:
            return f"rows of results: more than {self._limit} characters in this run"
        self._sent[number] += length
        return None

    def collect(self, replies: Replies, run: str, arm: str, number: int) -> list[ResultRow]:
        """Return the rows of all replies, those of the first client first."""
        found: list[ResultRow] = []
        for member, reply in replies.good.items():
            for row in _rows(reply):
                owner = self.owners.setdefault(row["site"], member.client)
                site = row["site"] if owner == member.client else f"{row['site']} ({member.name})"
                found.append(ResultRow(run=run, arm=arm, round=number, **{**row, "site": site}))
        return found


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
    text = config_of(reply, INFO).get("rows")
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise FederationError("none are given")
    try:
        rows = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise FederationError(f"not JSON ({error})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FederationError("a list of rows is expected")
    if len(rows) > MAX_ROWS:
        raise FederationError(f"{len(rows)} of them, at most {MAX_ROWS} are accepted")
    for row in rows:
        _check_row(row)
    return rows


def _check_row(row: dict[str, Any]) -> None:
    for column, value in row.items():
        if column not in _COLUMNS:
            raise FederationError(f"column {str(column)[:40]!r} is not expected")
        sound = column in _OPTIONAL if value is None else _is_sound(column, value)
        if not sound:
            raise FederationError(f"{column} is {str(value)[:40]!r}")
    ResultRow(run="", arm="", round=0, **row)  # or a column is missing
    if not row["site"] or len(row["site"]) > MAX_SITE:
        raise FederationError(f"site is {row['site'][:40]!r}")


def _is_sound(column: str, value: object) -> bool:
    if column in _TEXT:
        return isinstance(value, str) and value.isprintable() and len(value) <= MAX_CELL
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if column in _WHOLE and not isinstance(value, int):
        return False
    return 0 <= value <= (1 if column in _SHARES else MAX_NUMBER)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")
