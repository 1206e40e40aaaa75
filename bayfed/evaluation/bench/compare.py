"""Who is compared with whom: panels of competitors, their means and their paired differences."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import get_args

from bayfed.config import Arm
from bayfed.episodes.protocols import PROTOCOLS
from bayfed.evaluation.summary import CONTROL, last_round
from bayfed.evaluation.table import ResultRow
from bayfed.metrics.intervals import Interval, mean_interval, paired_interval

AUROC = "image_auroc"
_ARMS = get_args(Arm)


@dataclass(frozen=True)
class Competitor:
    """The rows of one system and one arm, at its last round."""

    system: str
    arm: str
    rows: tuple[ResultRow, ...]

    @property
    def title(self) -> str:
        """System and arm in words; an untrained one needs no word for it."""
        return self.system if self.arm == CONTROL else f"{self.system}, {self.arm}"


@dataclass(frozen=True)
class Panel:
    """Competitors that met the same images under the same conditions.

    ``noise`` is the share of train/good that defects were to replace, ``None`` if none was;
    ``full`` tells whether a support is all of train/good, ``shots`` then the largest one.
    """

    protocol: str
    shots: int
    noise: float | None
    backbone: str | None
    competitors: tuple[Competitor, ...]
    full: bool = False

    @property
    def support(self) -> str:
        """The support in words."""
        return "full support" if self.full else counted(self.shots, "shot")

    def find(self, system: str, arm: str = CONTROL) -> Competitor | None:
        """Return the competitor of that system and arm, if it takes part."""
        found = (one for one in self.competitors if (one.system, one.arm) == (system, arm))
        return next(found, None)

    @property
    def sites(self) -> list[str]:
        """The sites of any competitor."""
        return sorted({row.site for one in self.competitors for row in one.rows})

    @property
    def seeds(self) -> int:
        """Number of replicates."""
        return len({row.seed for one in self.competitors for row in one.rows})

    @property
    def draws(self) -> int:
        """Number of supports drawn at a site in one replicate."""
        return len({row.draw for one in self.competitors for row in one.rows})


def counted(number: int, thing: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "seed"), counted(2, "draw")
    ('1 seed', '2 draws')
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def label(row: ResultRow) -> str:
    """Return the name of the row's system: its method, and what sets it apart."""
    return f"{row.method} {row.variant}" if row.variant else row.method


def panels(rows: Iterable[ResultRow]) -> list[Panel]:
    """Return the rows as panels, the best mean AUROC of each first."""
    groups: defaultdict[tuple[str, bool, int, float, str], list[ResultRow]] = defaultdict(list)
    for row in rows:
        full = bool(row.full_support)
        shots = 0 if full else row.shots  # a full support is as large as its site
        groups[row.protocol, full, shots, row.noise or 0.0, row.backbone or ""].append(row)
    order = list(PROTOCOLS)
    found = sorted(groups, key=lambda key: (order.index(key[0]), *key[1:]))
    return [
        Panel(
            protocol,
            shots or max(row.shots for row in groups[key]),
            noise or None,
            backbone or None,
            _competitors(groups[key]),
            full,
        )
        for key in found
        for protocol, full, shots, noise, backbone in [key]
    ]


def _competitors(rows: Sequence[ResultRow]) -> tuple[Competitor, ...]:
    groups: defaultdict[tuple[str, str], list[ResultRow]] = defaultdict(list)
    for row in rows:
        groups[label(row), row.arm].append(row)
    found = [
        Competitor(system, arm, tuple(last_round(of_arm, arm)))
        for (system, arm), of_arm in groups.items()
    ]
    return tuple(sorted(found, key=_rank))


def _rank(one: Competitor) -> tuple[float, str, int]:
    mean = over_seeds(one, AUROC).mean
    arm = _ARMS.index(one.arm) if one.arm in _ARMS else len(_ARMS)
    return (math.inf if math.isnan(mean) else -mean, one.system, arm)


def site_means(one: Competitor, metric: str = AUROC) -> dict[str, float]:
    """Return site -> mean over all draws and seeds, without sites where nothing was measured."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for row in one.rows:
        value = getattr(row, metric)
        if value is not None:
            values[row.site].append(float(value))
    return {site: fmean(found) for site, found in sorted(values.items())}


def over_seeds(one: Competitor, metric: str = AUROC) -> Interval:
    """Return the mean over seeds of the mean over sites, and its t-interval over seeds.

    Draws are averaged within a site, sites within a seed; the interval says how much another
    seed changes the mean, not how much other sites would.
    """
    by_seed: defaultdict[str, list[ResultRow]] = defaultdict(list)
    for row in one.rows:
        by_seed[str(row.seed)].append(row)
    means = {
        seed: list(site_means(Competitor(one.system, one.arm, tuple(rows)), metric).values())
        for seed, rows in by_seed.items()
    }
    return mean_interval({seed: [fmean(sites)] for seed, sites in means.items() if sites})


def paired(before: Competitor, after: Competitor, metric: str = AUROC) -> Interval:
    """Return after minus before: draws and seeds averaged within a site, sites as the unit.

    Only sites and seeds that both have been measured on are compared.
    """
    first, second = _by_unit(before, metric), _by_unit(after, metric)
    both = sorted(first.keys() & second.keys())
    return paired_interval(_by_site(first, both), _by_site(second, both))


def _by_site(
    means: Mapping[tuple[str, int], float], units: Sequence[tuple[str, int]]
) -> dict[str, list[float]]:
    sites: defaultdict[str, list[float]] = defaultdict(list)
    for unit in units:
        sites[unit[0]].append(means[unit])
    return dict(sites)


def _by_unit(one: Competitor, metric: str) -> dict[tuple[str, int], float]:
    values: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for row in one.rows:
        value = getattr(row, metric)
        if value is not None:
            values[row.site, row.seed].append(float(value))
    return {unit: fmean(found) for unit, found in values.items()}


@dataclass(frozen=True)
class Duel:
    """How often one competitor was ahead of another, a tie counting half."""

    wins: float
    sites: int
    interval: Interval


def duel(one: Competitor, other: Competitor, metric: str = AUROC) -> Duel:
    """Return on how many of the sites of both ``one`` was ahead of ``other``."""
    first, second = site_means(one, metric), site_means(other, metric)
    both = sorted(first.keys() & second.keys())
    wins = sum((first[s] > second[s]) + 0.5 * (first[s] == second[s]) for s in both)
    return Duel(float(wins), len(both), paired(other, one, metric))
