"""The tables of a study, made of what its runs have written."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from io import StringIO
from itertools import accumulate
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Self

from bayfed.config.study import Cell
from bayfed.errors import DataError
from bayfed.evaluation.atomic import write_atomic
from bayfed.evaluation.summary import CONTROL, TRAINED, draws_by_site, last_round, select
from bayfed.evaluation.table import read_rows
from server import history, outcome
from server.job import Job

NAN = math.nan
_NAMES = (
    "loss", "objective", "slope", "dissimilarity", "inner_gain", "drift", "cosine", "update_norm",
    "mean_image_auroc",
)  # fmt: skip
"""Of a line of the history, in the order of :class:`Point`."""


@dataclass(frozen=True)
class Row:
    """A row of a table; nan stands where nothing is known."""

    file: ClassVar[str]

    strategy: str
    heterogeneity: str
    seed: int

    @property
    def cell(self) -> Cell:
        """The run it is of."""
        return Cell(self.strategy, self.heterogeneity, self.seed)

    @classmethod
    def write(cls, folder: Path, rows: Iterable[Self]) -> None:
        """Replace the table in ``folder``."""
        text = StringIO()
        writer = csv.DictWriter(text, [f.name for f in fields(cls)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
        write_atomic(folder / cls.file, text.getvalue().encode())

    @classmethod
    def read(cls, folder: Path) -> list[Self]:
        """Return the table in ``folder``.

        Raises:
            DataError: there is none, or it has other columns or values.
        """
        path, kinds = folder / cls.file, {"int": int, "float": float, "str": str}
        of = {f.name: kinds[str(f.type)] for f in fields(cls)}
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            return [cls(**{name: kind(row[name]) for name, kind in of.items()}) for row in rows]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: is no table of a study: {error}") from error


@dataclass(frozen=True)
class Run(Row):
    """What came out of a run.

    Attributes:
        status: How it ended, see :mod:`server.outcome`.
        rounds: Those that were completed.
        control: The mean image AUROC of round 0.
        auroc: That of the last round that was evaluated.
        objective: F at the end.
        slope: The squared norm of its gradient there.
        slope_min: The least of those that were diagnosed.
        slope_mean: Their mean over rounds, see :func:`running_mean`.
        dissimilarity: How unlike the clients' gradients are at round 0.
        apart: The share of the variance of their normals that lies between them.
        drift: The mean over rounds of how far updates lie from their mean.
        cosine: The mean over rounds of how alike their directions are.
        megabytes: Of tensors, sent up and down for training.
        seconds: Of training, of this process's clock.
        reason: Why it did not end well.
    """

    file = "study.csv"

    status: str
    rounds: int
    control: float
    auroc: float
    objective: float
    slope: float
    slope_min: float
    slope_mean: float
    dissimilarity: float
    apart: float
    drift: float
    cosine: float
    megabytes: float
    seconds: float
    reason: str


@dataclass(frozen=True)
class Point(Row):
    """A round of a run; bytes and seconds are those of training up to it."""

    file = "curves.csv"

    round: int
    loss: float
    objective: float
    slope: float
    dissimilarity: float
    inner_gain: float
    drift: float
    cosine: float
    update_norm: float
    auroc: float
    megabytes: float
    seconds: float


@dataclass(frozen=True)
class Site(Row):
    """A site of a run: its mean image AUROC at round 0 and at the end."""

    file = "sites.csv"

    site: str
    control: float
    auroc: float


def points(cell: Cell, lines: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Return the rounds of a run, from the lines of its history."""
    found, megabytes, seconds = [], 0.0, 0.0
    for line in lines:
        megabytes += line["training_bytes"] / 1e6
        seconds += line["training_seconds"]
        numbers = [_number(line, name) for name in _NAMES]
        place = [line["round"], *numbers, megabytes, seconds]
        found.append(Point(*cell, *place))
    return found


def sites(cell: Cell, job: Job) -> list[Site]:
    """Return the sites of a run that was evaluated after its last round."""
    if not job.results.exists():
        return []
    rows = read_rows(job.results)
    control = draws_by_site(select(rows, arm=CONTROL))
    trained = draws_by_site(last_round(rows, TRAINED))
    both = sorted(control.keys() & trained.keys())
    return [Site(*cell, site, fmean(control[site]), fmean(trained[site])) for site in both]


def run_of(cell: Cell, job: Job, found: Sequence[Point], apart: float) -> Run:
    """Return what came out of a run whose rounds are ``found``."""
    said = outcome.read(job.outcome)
    slopes = [p.slope for p in found if not math.isnan(p.slope)]
    aurocs = [p.auroc for p in found if not math.isnan(p.auroc)]
    ended = said.get("status") == outcome.COMPLETED
    diagnosed = [p for p in found if not math.isnan(p.slope)]
    last = found[-1] if found else None
    return Run(
        *cell,
        said.get("status", outcome.INTERRUPTED),
        last.round if last else 0,
        aurocs[0] if aurocs else NAN,
        aurocs[-1] if ended and aurocs else NAN,
        diagnosed[-1].objective if ended and diagnosed else NAN,
        slopes[-1] if ended and slopes else NAN,
        min(slopes, default=NAN),
        running_mean([p.round for p in diagnosed], slopes)[-1] if slopes else NAN,
        diagnosed[0].dissimilarity if diagnosed else NAN,
        apart,
        mean_of_known(p.drift for p in found),
        mean_of_known(p.cosine for p in found),
        last.megabytes if last else 0.0,
        last.seconds if last else 0.0,
        said.get("reason", ""),
    )


def tabulate(folder: Path, jobs: Mapping[Cell, Job]) -> list[Run]:
    """Write the tables of all runs that have begun, and return the first."""
    runs, curves, places = [], list[Point](), list[Site]()
    for cell, job in jobs.items():
        if not job.outcome.exists():
            continue
        lines = history.read(job.history)
        found = points(cell, lines)
        apart = _number(lines[0], "statistics_share") if lines else NAN
        runs.append(run_of(cell, job, found, apart))
        curves += found
        if runs[-1].status == outcome.COMPLETED:
            places += sites(cell, job)
    Run.write(folder, runs)
    Point.write(folder, curves)
    Site.write(folder, places)
    return runs


def by(rows: Iterable[Any], *names: str) -> dict[Any, list[Any]]:
    """Return rows by the values of some columns, in the order in which these first come.

    >>> list(by([Site("a", "h", 0, "nut", 0.5, 0.6)], "strategy", "seed"))
    [('a', 0)]
    """
    found: dict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        values = tuple(getattr(row, name) for name in names)
        found[values if len(values) > 1 else values[0]].append(row)
    return dict(found)


def _number(line: Mapping[str, Any], name: str) -> float:
    value = line.get(name)
    return NAN if value is None else float(value)


def running_mean(x: Sequence[float], y: Sequence[float]) -> list[float]:
    r"""Return the mean of y from the first x up to each, by the trapezoidal rule.

    .. math:: \frac{1}{x_k - x_0} \int_{x_0}^{x_k} y

    The rounds that are diagnosed need not be equally far apart (the last one always is), and the
    value before the first step stands for half an interval, not for a whole one.

    >>> running_mean([0, 4, 6], [9.0, 1.0, 1.0])
    [9.0, 5.0, 3.6666666666666665]
    """
    areas = [(b - a) * (c + d) / 2 for a, b, c, d in zip(x, x[1:], y, y[1:], strict=False)]
    ends = zip(accumulate(areas), x[1:], strict=True)
    return [*y[:1], *(area / (end - x[0]) for area, end in ends)]


def mean_of_known(values: Iterable[float]) -> float:
    """Return the mean of what is not nan; nan where nothing is known."""
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else NAN
