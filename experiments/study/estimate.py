"""What a study will cost, from the first rounds of few of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bayfed.config.study import Cell
from experiments.study.work import Cost
from server.job import Job

Pair = tuple[str, str]
"""A strategy and a heterogeneity."""


def probed_pairs(cells: Iterable[Cell]) -> dict[Pair, Cell]:
    """Return one cell of each pair that has to be probed.

    These are the pairs of the first strategy and of the first heterogeneity, and those that do not
    follow from them by :func:`cost_of`.

    >>> grid = [Cell(s, h, 0) for h in ("x", "y", "z") for s in ("a", "b")]
    >>> list(probed_pairs(grid))
    [('a', 'x'), ('b', 'x'), ('a', 'y'), ('a', 'z')]
    """
    pairs: dict[Pair, Cell] = {}
    for cell in cells:
        pairs.setdefault((cell.strategy, cell.heterogeneity), cell)
    if not pairs:
        return {}
    first, usual = next(iter(pairs))
    return {
        (s, h): cell
        for (s, h), cell in pairs.items()
        if s == first or h == usual or not {(s, usual), (first, h)} <= pairs.keys()
    }


def cost_of(cell: Cell, costs: Mapping[Pair, Cost]) -> Cost:
    """Return what a run costs: as probed, or a strategy's cost times a heterogeneity's.

    Args:
        cell: The run.
        costs: Of the pairs of :func:`probed_pairs`.
    """
    pair = cell.strategy, cell.heterogeneity
    if pair in costs:
        return costs[pair]
    first, usual = next(iter(costs))
    own, there = costs[cell.strategy, usual], costs[first, cell.heterogeneity]
    return own.scaled(there, costs[first, usual])


def estimated(todo: Mapping[Cell, Job], costs: Mapping[Pair, Cost], workers: int) -> str:
    """Return what the runs will cost, in words."""
    each = {cell: cost_of(cell, costs) for cell in todo}
    seconds = sum(cost.seconds(todo[cell].experiment) for cell, cost in each.items())
    peak = max(cost.peak for cost in each.values())
    rounds = sum(job.experiment.federation.rounds for job in todo.values())
    return (
        f"estimate: {len(todo)} runs, {rounds} rounds, {workers} processes: "
        f"{duration(seconds / workers)}, {workers * peak / 1e9:.1f} GB of memory"
    )


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(80), duration(600), duration(30 * 3600 + 300)
    ('80 s', '10 min', '30:05 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours}:{rest:02d} h" if seconds > 5400 else f"{seconds / 60:.0f} min"
