"""Differences between strategies, told from chance over sites and over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bayfed.metrics.intervals import Interval, paired_interval
from experiments.study.table import Site, by


@dataclass(frozen=True)
class Difference:
    """The image AUROC of a strategy minus that of another under the same heterogeneity.

    A training moves all its sites together, which an interval over sites does not see; seeds of
    the same few sites say nothing of others. So there are two intervals, each paired.

    Attributes:
        sites: Over sites, of their means over seeds.
        seeds: Over seeds, of their means over sites.
    """

    sites: Interval
    seeds: Interval

    @property
    def is_told(self) -> bool:
        """Whether both intervals exclude 0."""
        return self.sites.excludes_zero and self.seeds.excludes_zero

    def __str__(self) -> str:
        return f"{self.sites.mean:+.4f} {_limits(self.sites)} {_limits(self.seeds)}"


def against(sites: Sequence[Site], reference: str) -> dict[tuple[str, str], Difference]:
    """Return how strategies differ from ``reference``, by (strategy, heterogeneity).

    What both have finished is compared: the seeds, and the sites of each.
    """
    found = {}
    groups = by(sites, "strategy", "heterogeneity")
    for (strategy, heterogeneity), own in groups.items():
        if strategy == reference:
            continue
        other = {(s.seed, s.site): s.auroc for s in groups.get((reference, heterogeneity), [])}
        pairs = [(s, other[s.seed, s.site]) for s in own if (s.seed, s.site) in other]
        if pairs:
            found[strategy, heterogeneity] = Difference(_over(pairs, "site"), _over(pairs, "seed"))
    return found


def _over(pairs: Sequence[tuple[Site, float]], unit: str) -> Interval:
    before, after = dict[str, list[float]](), dict[str, list[float]]()
    for row, other in pairs:
        key = str(getattr(row, unit))
        before.setdefault(key, []).append(other)
        after.setdefault(key, []).append(row.auroc)
    return paired_interval(before, after)


def _limits(interval: Interval) -> str:
    if math.isnan(interval.low):
        return "[n = 1]"
    return f"[{interval.low:+.4f}, {interval.high:+.4f}]"
