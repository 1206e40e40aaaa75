"""What was scored and what people said of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bayfed.evaluation.colours import ColourScale
from bayfed.inference.inspection import Inspection
from bayfed.serve.database import Database
from bayfed.serve.records import (
    LONGEST_NAME,
    LONGEST_NOTE,
    Entry,
    Record,
    Source,
    Verdict,
    cleaned,
    inspection_of,
    now,
    record_of,
)
from bayfed.serve.refusals import MissingError, UnreadableError

VIEWS = {
    "newest": "SELECT * FROM items ORDER BY id DESC LIMIT ?",
    "review": "SELECT * FROM items WHERE decision = 'review' AND verdict IS NULL "
    "ORDER BY epistemic DESC, id LIMIT ?",
    # A digest is as good as a lot: whichever part is called ok is drawn with the same chance.
    "check": "SELECT * FROM items WHERE decision = 'ok' AND verdict IS NULL "
    "ORDER BY digest, id LIMIT ?",
    "reviewed": "SELECT * FROM items WHERE verdict IS NOT NULL ORDER BY reviewed DESC, id LIMIT ?",
}
"""Lists of items: the latest, those a person is to decide, parts called ok for a spot check."""
_LARGEST = 2**63 - 1
"""Integer that SQLite can hold."""
_PAGE = 500
"""Rows that an export reads at a time."""


class Event(NamedTuple):
    """Something that a person did."""

    at: str
    kind: str
    item: int | None
    text: str


class Seen(NamedTuple):
    """What is drawn of an item; without a scale there is no map."""

    record: Record
    inspection: Inspection
    scale: ColourScale | None


class History:
    """Items, verdicts and events in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, entries: Sequence[Entry]) -> list[Record]:
        """Record ``entries`` in one transaction, all of them or none.

        Raises:
            StorageError: the disk is full or cannot be written to.
        """
        with self._database.writing() as connection:
            return [_add(connection, entry) for entry in entries]

    def review(self, item: int, verdict: Verdict, note: str = "") -> Record:
        """Record what a person says of an item; the last word counts, all are kept as events.

        Raises:
            MissingError: there is no such item.
            UnreadableError: the item could not be read, so there is nothing to judge.
            StorageError: the disk is full or cannot be written to.
        """
        note, at = cleaned(note, LONGEST_NOTE), now()
        with self._database.writing() as connection:
            record = _get(connection, item)
            if record.error is not None:
                raise UnreadableError(f"item {item}: {record.error}")
            connection.execute(
                "UPDATE items SET verdict = ?, note = ?, reviewed = ? WHERE id = ?",
                (verdict, note, at, item),
            )
            word = "confirmed" if verdict is record.leaning else "overruled"
            text = f"{word}: {verdict}" + (f" ({note})" if note else "")
            add_event(connection, "review", item, text)
            return _get(connection, item)

    def get(self, item: int) -> Record:
        """Return an item.

        Raises:
            MissingError: there is no such item.
        """
        with self._database.reading() as connection:
            return _get(connection, item)

    def seen(self, item: int) -> Seen:
        """Return a scored item with its map, on the scale that the product had at the time.

        Raises:
            MissingError: there is no such item, or it could not be read.
        """
        with self._database.reading() as connection:
            record = _get(connection, item)
            row = connection.execute("SELECT * FROM maps WHERE item = ?", (item,)).fetchone()
        if record.error is not None:
            raise MissingError(f"item {item}: {record.error}")
        if row is None:
            return Seen(record, inspection_of(record, None), None)
        grid = np.frombuffer(row["surprise"], "<f4").reshape(row["height"], row["width"])
        scale = ColourScale(row["low"], row["high"], row["threshold"])
        return Seen(record, inspection_of(record, grid), scale)

    def items(self, view: str, limit: int) -> list[Record]:
        """Return the first items of one of the ``VIEWS``."""
        with self._database.reading() as connection:
            return [record_of(row) for row in connection.execute(VIEWS[view], (limit,))]

    def every(self) -> Iterator[Record]:
        """Yield all items, oldest first, in constant memory."""
        with self._database.browsing() as connection:
            last = 0
            while True:
                query = "SELECT * FROM items WHERE id > ? ORDER BY id LIMIT ?"
                rows = connection.execute(query, (last, _PAGE)).fetchall()
                if not rows:
                    return
                yield from map(record_of, rows)
                last = rows[-1]["id"]

    def tallies(self) -> dict[tuple[str, str], int]:
        """Return the number of items by decision ('' if unreadable) and verdict ('' if none)."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT * FROM tallies").fetchall()
        return {(row["decision"], row["verdict"]): row["number"] for row in rows}

    def events(self, limit: int) -> list[Event]:
        """Return what people did, the latest first."""
        with self._database.reading() as connection:
            query = "SELECT at, kind, item, text FROM events ORDER BY id DESC LIMIT ?"
            return [Event(*row) for row in connection.execute(query, (limit,))]

    def knows(self, digest: str, source: Source) -> bool:
        """Return whether the content has come from this source before."""
        with self._database.reading() as connection:
            query = "SELECT 1 FROM items WHERE digest = ? AND source = ? LIMIT 1"
            return connection.execute(query, (digest, source)).fetchone() is not None


def add_event(connection: sqlite3.Connection, kind: str, item: int | None, text: str) -> None:
    """Record within a transaction that something was done."""
    row = now(), kind, item, text
    connection.execute("INSERT INTO events (at, kind, item, text) VALUES (?, ?, ?, ?)", row)


def _get(connection: sqlite3.Connection, item: int) -> Record:
    row = None
    if 0 < item <= _LARGEST:
        row = connection.execute("SELECT * FROM items WHERE id = ?", (item,)).fetchone()
    if row is None:
        raise MissingError(f"there is no item {item}")
    return record_of(row)


def _add(connection: sqlite3.Connection, entry: Entry) -> Record:
    seen = entry.inspection
    values: dict[str, object] = {
        "received": now(),
        "name": cleaned(entry.name, LONGEST_NAME),
        "source": entry.source,
        "digest": entry.digest,
        "revision": entry.revision,
        "ms": entry.ms,
        "error": None if entry.error is None else cleaned(entry.error, LONGEST_NOTE),
        "threshold": entry.threshold,
    }
    if seen is not None:
        values |= {
            "score": seen.score,
            "log_odds": seen.log_odds,
            "p_value": seen.p_value,
            "epistemic": seen.epistemic,
            "decision": seen.decision,
            "regions": json.dumps(seen.regions),
        }
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    query = f"INSERT INTO items ({names}) VALUES ({marks}) RETURNING *"
    row = connection.execute(query, tuple(values.values())).fetchone()
    if seen is not None and seen.surprise is not None and entry.scale is not None:
        grid, scale = seen.surprise, entry.scale
        limits = scale.low, scale.high, scale.threshold
        drawing = *grid.shape, grid.astype("<f4").tobytes(), *limits
        query = "INSERT INTO maps VALUES (?, ?, ?, ?, ?, ?, ?)"
        connection.execute(query, (row["id"], *drawing))
    return record_of(row)
