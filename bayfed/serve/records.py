"""One scored image as it is kept."""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np

from bayfed.evaluation.colours import ColourScale
from bayfed.inference.inspection import Decision, Inspection, Region

LONGEST_NAME = 200
LONGEST_NOTE = 2000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+")


class Source(StrEnum):
    """Where an image came from."""

    UPLOAD = "upload"
    WATCH = "watch"


class Verdict(StrEnum):
    """What a person says of a part."""

    GOOD = "good"
    DEFECT = "defect"


@dataclass(frozen=True, eq=False)
class Entry:
    """An image that is to be recorded: scored, or with the reason why it could not be.

    Attributes:
        digest: SHA-256 of the image file.
        revision: Of the product file that scored it.
        ms: Time of decoding and scoring, in milliseconds.
        threshold: Score above which this revision calls a part defective.
    """

    name: str
    source: Source
    digest: str
    revision: str
    ms: float
    threshold: float | None = None
    inspection: Inspection | None = None
    scale: ColourScale | None = None
    error: str | None = None


@dataclass(frozen=True)
class Record:
    """A row of the history; the numbers are None where the image could not be read.

    Attributes:
        reviewed: When a person gave the verdict.
        learned: When it was added to the model.
    """

    id: int
    received: str
    name: str
    source: str
    digest: str
    revision: str
    ms: float
    error: str | None
    score: float | None
    log_odds: float | None
    p_value: float | None
    epistemic: float | None
    threshold: float | None
    decision: Decision | None
    regions: tuple[Region, ...]
    verdict: Verdict | None
    note: str
    reviewed: str | None
    learned: str | None

    @property
    def leaning(self) -> Verdict | None:
        """What the detector would say if it had to: its decision, or the threshold's side."""
        if self.decision is None or self.score is None or self.threshold is None:
            return None
        if self.decision is Decision.REVIEW:
            return Verdict.DEFECT if self.score > self.threshold else Verdict.GOOD
        return Verdict.DEFECT if self.decision is Decision.DEFECT else Verdict.GOOD


COLUMNS = tuple(field.name for field in fields(Record))


def record_of(row: sqlite3.Row) -> Record:
    """Return the record of a row of the table ``items``."""
    values: dict[str, Any] = {name: row[name] for name in COLUMNS}
    values["regions"] = tuple(Region(*region) for region in json.loads(row["regions"]))
    values["decision"] = None if row["decision"] is None else Decision(row["decision"])
    values["verdict"] = None if row["verdict"] is None else Verdict(row["verdict"])
    return Record(**values)


def inspection_of(record: Record, surprise: np.ndarray | None) -> Inspection:
    """Return what was said of a scored image, so that it can be drawn again."""
    numbers = record.score, record.log_odds, record.epistemic, record.decision
    score, log_odds, epistemic, decision = numbers
    if score is None or log_odds is None or epistemic is None or decision is None:
        raise ValueError(f"item {record.id} was not scored")
    return Inspection(
        score, log_odds, record.p_value, epistemic, decision, surprise, record.regions
    )


def cleaned(text: str, longest: int) -> str:
    r"""Return one line of ``text`` without control characters.

    >>> cleaned("a\x00b\n" + "c" * 9, 5)
    'a b c'
    """
    return " ".join(_CONTROL.sub(" ", text.encode("utf-8", "replace").decode()).split())[:longest]


def now() -> str:
    """Return the time, in UTC."""
    return text_of_time(datetime.now(UTC))


def text_of_time(time: datetime) -> str:
    """Return a time in UTC as it is kept; the order of texts is that of times."""
    return time.isoformat(timespec="milliseconds")
