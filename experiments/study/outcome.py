"""What a check of the theory leaves behind: a verdict, numbers, and points to draw."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bayfed.errors import DataError


@dataclass(frozen=True)
class Mark:
    """A point of a figure.

    Attributes:
        panel: The axes it belongs to, by the label of their y axis.
        series: What it is a point of.
        x: The abscissa.
        y: The ordinate.
        fit: Whether the line through the series takes it in.
    """

    panel: str
    series: str
    x: float
    y: float
    fit: bool = False


@dataclass(frozen=True)
class Check:
    """A check of the theory.

    Attributes:
        name: Of its files.
        claim: What the theory says.
        rule: What counts as passed.
        holds: The assumptions that hold, and those that do not.
        passed: The verdict; None = the claim does not apply, as :attr:`holds` or a number tells.
        numbers: What was found, as label and text.
        abscissa: The label of the x axis.
        marks: What is drawn.
    """

    name: str
    claim: str
    rule: str
    holds: str
    passed: bool | None
    numbers: dict[str, str]
    abscissa: str
    marks: tuple[Mark, ...]


def write_marks(path: Path, abscissa: str, marks: Sequence[Mark]) -> None:
    """Write the points of a figure, with the x axis's label as the name of its column."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([abscissa if f.name == "x" else f.name for f in fields(Mark)])
        for mark in marks:
            row = asdict(mark)
            writer.writerow([row["panel"], row["series"], row["x"], row["y"], int(row["fit"])])


def read_marks(path: Path) -> tuple[str, list[Mark]]:
    """Return the x axis's label and the points that :func:`write_marks` wrote.

    Raises:
        DataError: the file is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        marks = [Mark(p, s, float(x), float(y), f == "1") for p, s, x, y, f in rows]
        return header[2], marks
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path}: is no table of a figure: {error}") from error


def summary(checks: Sequence[Check], title: str) -> str:
    """Return the checks as Markdown."""
    lines = [f"# {title}", "", "| check | verdict |", "|---|---|"]
    lines += [f"| [{c.name}](#{c.name}) | {verdict(c)} |" for c in checks]
    for check in checks:
        lines += ["", f"## {check.name}", "", f"**{verdict(check)}.** {check.claim}", ""]
        lines += [f"Passed when: {check.rule}", "", f"Assumptions: {check.holds}", ""]
        lines += ["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in check.numbers.items())]
        lines += ["", f"![{check.name}]({check.name}.png)"] if check.marks else []
    return "\n".join(lines) + "\n"


def verdict(check: Check) -> str:
    """Return PASS, FAIL or DOES NOT APPLY."""
    if check.passed is None:
        return "DOES NOT APPLY"
    return "PASS" if check.passed else "FAIL"
