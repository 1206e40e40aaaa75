"""Timing, facts of the machine and tables: what all benchmarks share."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from bayfed import __version__
from experiments.finish import environment

WIDTH = 110


@dataclass(frozen=True)
class Sample:
    """Repeated measurements of one quantity; the warm-up is not among them."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile; of a single value, that value twice.

        >>> Sample((1.0, 2.0, 3.0, 4.0, 5.0)).quartiles
        (2.0, 4.0)
        """
        if len(self.values) < 2:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def scaled(self, factor: float) -> Sample:
        """Return the measurements in another unit."""
        return Sample(tuple(factor * value for value in self.values))

    def text(self, digits: int = 1) -> str:
        """Return the median and the quartiles.

        >>> Sample((1.0, 2.0, 3.0, 4.0, 5.0)).text()
        '3.0 (2.0 to 4.0)'
        """
        low, high = self.quartiles
        return f"{self.median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def time_rivals(
    rivals: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 1
) -> dict[str, Sample]:
    """Return the seconds of a call of each rival.

    Rivals take turns, so that a change in the machine's load meets all of them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(warmup + repeats):
        for name, call in rivals.items():
            started = time.perf_counter()
            call()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return {name: Sample(tuple(values)) for name, values in seconds.items()}


def wide_console() -> Console:
    """Return a console on which no row of a table is broken, also in a file."""
    return Console(width=max(WIDTH, Console().width))


def print_machine(console: Console) -> None:
    """Print the machine, its load, the threads in use and the versions."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    console.print(f"{processor()}, {usable_cores()} of {os.cpu_count()} cores, load {load}")
    console.print(f"{torch.get_num_threads()} torch threads, {platform.platform()}")
    versions = {"bayfed": __version__, **environment()}
    del versions["machine"]
    console.print(", ".join(f"{name} {text}" for name, text in versions.items()), highlight=False)


def processor() -> str:
    """Return the model of the processor, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def print_table(
    console: Console, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """Print rows of text; the first column is the name of the row."""
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def goal(value: float, limit: float, unit: str, *, at_least: bool = False, digits: int = 0) -> str:
    """Return a measured value beside its goal, and whether it is reached.

    >>> goal(31.2, 25, "ms")
    '31 ms, goal at most 25 ms: missed'
    """
    reached = value >= limit if at_least else value <= limit
    words = f"goal at {'least' if at_least else 'most'} {limit:g} {unit}".rstrip()
    shown = f"{value:.{digits}f} {unit}".rstrip()
    return f"{shown}, {words}: {'reached' if reached else 'missed'}"
