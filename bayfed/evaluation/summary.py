"""Rows of results -> means over sites, and trained against control."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bayfed.evaluation.table import ResultRow
from bayfed.metrics.intervals import Interval, mean_interval, paired_interval

CONTROL = "none"
"""Arm of the no-training control: the same method at round-0 parameters."""
TRAINED = "federated"


@dataclass(frozen=True)
class SiteLine:
    """A site before and after training, draws averaged; ``None`` where not measured."""

    site: str
    control: float | None
    trained: float | None

    @property
    def difference(self) -> float | None:
        """Trained minus control; ``None`` unless both were measured."""
        if self.control is None or self.trained is None:
            return None
        return self.trained - self.control


def select(rows: Iterable[ResultRow], **key: str | float | None) -> list[ResultRow]:
    """Return the rows whose columns have the given values, as in ``select(rows, shots=5)``."""
    return [row for row in rows if all(getattr(row, name) == key[name] for name in key)]


def draws_by_site(rows: Iterable[ResultRow], value: str = "image_auroc") -> dict[str, list[float]]:
    """Return site -> one number a row, without the rows in which ``value`` is empty."""
    draws: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        number = getattr(row, value)
        if number is not None:
            draws[row.site].append(float(number))
    return dict(sorted(draws.items()))


def last_round(rows: Iterable[ResultRow], arm: str) -> list[ResultRow]:
    """Return the rows of ``arm`` at its last round: the last, never the best."""
    of_arm = select(rows, arm=arm)
    last = max((row.round for row in of_arm), default=0)
    return select(of_arm, round=last)


def summary(
    rows: Iterable[ResultRow], value: str = "image_auroc"
) -> dict[tuple[str, int], Interval]:
    """Return (arm, round) -> mean over sites of draw means, with its 95 % interval.

    Every row counts as a draw of its site: rows of several methods, protocols or shots are
    separated first, by ``select``.
    """
    groups: defaultdict[tuple[str, int], list[ResultRow]] = defaultdict(list)
    for row in rows:
        groups[row.arm, row.round].append(row)
    return {key: mean_interval(draws_by_site(groups[key], value)) for key in sorted(groups)}


def site_table(
    rows: Sequence[ResultRow],
    value: str = "image_auroc",
    control: str = CONTROL,
    trained: str = TRAINED,
) -> list[SiteLine]:
    """Return one line a site, sorted by name, from the last round of either arm."""
    before = draws_by_site(last_round(rows, control), value)
    after = draws_by_site(last_round(rows, trained), value)
    return [
        SiteLine(site, _mean(before.get(site)), _mean(after.get(site)))
        for site in sorted(before.keys() | after.keys())
    ]


def paired_summary(
    rows: Sequence[ResultRow],
    value: str = "image_auroc",
    control: str = CONTROL,
    trained: str = TRAINED,
) -> Interval:
    """Return trained minus control over the sites measured in both, sites as the units."""
    lines = site_table(rows, value, control, trained)
    both = [line for line in lines if line.control is not None and line.trained is not None]
    return paired_interval(
        {line.site: [line.control] for line in both if line.control is not None},
        {line.site: [line.trained] for line in both if line.trained is not None},
    )


def arm_mean(lines: Iterable[SiteLine], arm: str) -> float | None:
    """Return the mean of the column ``arm`` over the sites measured in both arms.

    Where one arm is all there is, as of an untrained system, over all sites.
    """
    found = list(lines)
    two = {name for name in ("control", "trained") if _column(found, name)}
    if two != {arm}:
        found = [line for line in found if line.difference is not None]
    return _mean(_column(found, arm))


def _column(lines: Iterable[SiteLine], arm: str) -> list[float]:
    return [number for line in lines if (number := getattr(line, arm)) is not None]


def interval_text(interval: Interval, digits: int = 3) -> str:
    """Return the limits in words.

    >>> interval_text(Interval(0.2, 0.1, 0.3, 8))
    '+0.100 to +0.300'
    """
    if math.isnan(interval.low):
        return "no interval (fewer than two sites)"
    return f"{interval.low:+.{digits}f} to {interval.high:+.{digits}f}"


def print_summary(rows: Sequence[ResultRow], console: Console, value: str = "image_auroc") -> None:
    """Print site x (control, trained, difference), the mean and the paired 95 % interval."""
    lines, paired = site_table(rows, value), paired_summary(rows, value)
    table = Table(title=value, caption=f"paired 95 % interval: {interval_text(paired)}")
    table.add_column("site")
    for heading in ("control", "trained", "difference"):
        table.add_column(heading, justify="right")
    for line in lines:
        table.add_row(Text(line.site), *_cells(line.control, line.trained, line.difference))
    mean = None if math.isnan(paired.mean) else paired.mean
    table.add_section()
    means = _cells(arm_mean(lines, "control"), arm_mean(lines, "trained"), mean)
    table.add_row(f"mean of {paired.n or len(lines)}", *means, style="bold")
    console.print(table)


def _cells(
    control: float | None, trained: float | None, difference: float | None
) -> tuple[str, str, str]:
    plain = ["" if number is None else f"{number:.3f}" for number in (control, trained)]
    return plain[0], plain[1], "" if difference is None else f"{difference:+.3f}"


def _mean(values: Sequence[float] | None) -> float | None:
    return math.fsum(values) / len(values) if values else None
